"""All that has to do with paying: alerts, top-ups, receipts, and who takes the payments."""

from dataclasses import dataclass

from leadline.accounts.mail import Outbox
from leadline.accounts.organisations import Organisations
from leadline.billing.alerts import Alerts
from leadline.billing.receipts import Receipts
from leadline.billing.stripe_checkout import StripeCheckout
from leadline.billing.top_ups import Lost, Paid, TopUps
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database


@dataclass(slots=True)
class Billing:
    """`checkout` is None where nobody takes payments: then an administrator grants credits. A server sets it."""

    alerts: Alerts
    top_ups: TopUps
    receipts: Receipts
    checkout: StripeCheckout | None = None

    @classmethod
    def of(cls, database: Database, ledger: Ledger, organisations: Organisations, outbox: Outbox) -> "Billing":
        parts = (database, ledger, organisations, outbox)
        return cls(Alerts(*parts), TopUps(*parts), Receipts(database))

    async def load(self) -> None:
        await self.alerts.load()

    async def take(self, told: Paid | Lost | None, base_url: str) -> None:
        """What Stripe tells of a payment."""
        match told:
            case Paid():
                await self.top_ups.credit(told, base_url)
            case Lost():
                await self.top_ups.lose(told)
            case None:
                pass
