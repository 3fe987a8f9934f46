"""What a running server does once in a while, beside its requests."""

import asyncio
import logging

from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_DAY, now_microseconds
from leadline.errors import LeadlineError
from leadline.ledger.usage import UsageBook
from leadline.serving.pipeline import Pipeline

_EVERY_SECONDS = 60
_PRUNE_EVERY_SECONDS = 3600
_log = logging.getLogger("leadline.housekeeping")


async def keep_house(instance: Instance, pipeline: Pipeline) -> None:
    """Go on until cancelled: write when keys were last used, mail those whose credits run low, and delete what has had
    its term; what had it while no server ran goes first."""
    seconds = _PRUNE_EVERY_SECONDS
    while True:
        try:
            await instance.keys.write_last_used()
            await instance.sessions.write_seen()
            await instance.management_keys.write_last_used()
            await instance.billing.top_ups.take_rest_back()
            await instance.billing.alerts.look(instance.base_url)
            if seconds >= _PRUNE_EVERY_SECONDS:
                seconds = 0
                await prune(instance, pipeline)
        except LeadlineError as error:
            _log.warning("housekeeping was put off", extra={"why": str(error)})
        except Exception:
            _log.exception("housekeeping failed")
        await asyncio.sleep(_EVERY_SECONDS)
        seconds += _EVERY_SECONDS


async def prune(instance: Instance, pipeline: Pipeline) -> None:
    """Delete usage records older than `[usage] keep_requests_days`, what is kept until a term that is over (answers,
    files, sessions, links, mails), and what a crash left of files."""
    await pipeline.replays.prune()
    await pipeline.stored.prune()
    await pipeline.batches.store.prune()
    await pipeline.files.prune()
    await pipeline.files.clean()
    await instance.sessions.prune()
    await instance.links.prune()
    await instance.outbox.prune()
    days = instance.config.usage.keep_requests_days
    if days:
        await UsageBook(instance.database).prune(now_microseconds() - days * MICROSECONDS_PER_DAY)
