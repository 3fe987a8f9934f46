import asyncio
import email
import email.policy
from email.message import EmailMessage

import pytest

from leadline.accounts.mail import Outbox
from leadline.config import Smtp
from leadline.storage.sealed import Sealer
from tests.scripted.smtp import ScriptedSmtp
from tests.unit.accounts.people import NOON, SECOND, People

SEALER = Sealer(b"s" * 32)
SENDER = "Leadline <leadline@north.example>"
TEXT = "Grüße,\n\nhttp://localhost:8080/reset?token=abc\n"
DAY = 86_400 * SECOND
_HANGS_SECONDS = 30


class Server:
    """Takes mails, or does not."""

    def __init__(self) -> None:
        self.taken: list[EmailMessage] = []
        self.refuses = False

    async def send(self, _: Smtp, message: EmailMessage) -> None:
        if self.refuses:
            raise ConnectionRefusedError("nobody listens")
        self.taken.append(message)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def outbox(people: People, server: Server) -> Outbox:
    return Outbox(people.database, SEALER, Smtp("smtp://mail.example", SENDER), people.watch, server.send)


async def test_a_mail_is_sent_once(outbox: Outbox, server: Server, people: People) -> None:
    await outbox.put("bob@example.com", "Choose a new password", TEXT, "reset")
    for _ in range(3):
        await outbox.deliver_due()

    [message] = server.taken
    [kept] = await outbox.newest()
    assert (message["To"], message["From"], message["Subject"]) == ("bob@example.com", SENDER, "Choose a new password")
    assert message.get_content() == TEXT
    assert (kept.to, kept.text, kept.because, kept.attempts, kept.sent_at) == (
        "bob@example.com",
        TEXT,
        "reset",
        1,
        NOON,
    )


async def test_what_fails_is_tried_again_ever_later_and_given_up_after_a_day(
    outbox: Outbox, server: Server, people: People
) -> None:
    server.refuses = True
    await outbox.put("bob@example.com", "Hello", TEXT, "reset")
    waits = []
    while (await outbox.newest())[0].given_up_at is None:
        await outbox.deliver_due()
        [(next_at,)] = await people.database.rows("SELECT next_attempt_at FROM mails")
        waits.append((next_at - people.watch.now) // SECOND)
        people.watch.now = next_at - 1
        await outbox.deliver_due()  # too early
        people.watch.now = next_at
    [mail] = await outbox.newest()

    assert waits[:6] == [30, 60, 120, 240, 480, 960]
    assert set(waits[8:]) == {3600}
    assert mail.attempts == len(waits)
    assert mail.given_up_at is not None
    assert DAY - 3600 * SECOND <= mail.given_up_at - NOON <= DAY
    assert mail.error == "ConnectionRefusedError: nobody listens"
    server.refuses = False
    people.watch.now += DAY
    await outbox.deliver_due()
    assert server.taken == []


async def test_one_mail_that_fails_does_not_keep_others(outbox: Outbox, server: Server, people: People) -> None:
    await outbox.put("one@example.com", "Hello", TEXT, "reset")
    await people.database.commit(outbox.putting("two@example.com", "Hello", TEXT, "reset"))
    real, outbox._send = server.send, server.send

    async def refuses_one(smtp: Smtp, message: EmailMessage) -> None:
        if message["To"] == "one@example.com":
            raise TimeoutError
        await real(smtp, message)

    outbox._send = refuses_one
    await outbox.deliver_due()

    assert [message["To"] for message in server.taken] == ["two@example.com"]
    assert {mail.to: mail.sent_at for mail in await outbox.newest()} == {
        "two@example.com": NOON,
        "one@example.com": None,
    }


async def test_without_a_server_mails_stay_in_the_outbox_for_a_week(people: People) -> None:
    outbox = Outbox(people.database, SEALER, Smtp(), people.watch)
    await outbox.put("bob@example.com", "Hello", TEXT, "invite")

    await asyncio.wait_for(outbox.deliver(), _HANGS_SECONDS)  # has nothing to do
    people.watch.now += 7 * DAY
    await outbox.prune()
    [kept] = await outbox.newest()
    people.watch.now += 1
    await outbox.prune()

    assert not outbox.sends
    assert (kept.text, kept.sent_at, kept.attempts) == (TEXT, None, 0)
    assert await outbox.newest() == []


async def test_who_has_only_the_database_reads_no_mail(outbox: Outbox, people: People) -> None:
    await outbox.put("bob@example.com", "Hello", TEXT, "reset")

    rows = str(await people.database.rows("SELECT * FROM mails"))
    other = Outbox(people.database, Sealer(b"o" * 32), Smtp(), people.watch)

    assert not any(word in rows for word in ("bob@", "Hello", "token=abc"))
    assert await other.newest() == []


async def test_the_newest_mails_come_in_pages(outbox: Outbox) -> None:
    for number in range(5):
        await outbox.put("bob@example.com", f"Mail {number}", TEXT, "reset")

    first = await outbox.newest(limit=3)
    second = await outbox.newest(limit=3, before=first[-1].id)

    assert [mail.subject for mail in (*first, *second)] == [f"Mail {number}" for number in (4, 3, 2, 1, 0)]


async def test_a_mail_reaches_a_server_by_smtp_also_at_the_second_try(people: People) -> None:
    async with ScriptedSmtp.running() as smtp:
        smtp.refusals = 1
        outbox = Outbox(people.database, SEALER, Smtp(f"smtp://127.0.0.1:{smtp.port}", SENDER), people.watch)
        await outbox.put("bob@example.com", "Grüße", TEXT, "reset")
        await outbox.deliver_due()
        [failed] = await outbox.newest()
        people.watch.now += 30 * SECOND
        delivering = asyncio.create_task(outbox.deliver())
        async with asyncio.timeout(_HANGS_SECONDS):
            while (await outbox.newest())[0].sent_at is None:
                await asyncio.sleep(0.01)
        delivering.cancel()

    [mail] = smtp.mails
    message = email.message_from_string(mail, policy=email.policy.default)
    assert "451" in failed.error
    assert (message["Subject"], message["To"]) == ("Grüße", "bob@example.com")
    assert message["Message-ID"] == f"<{failed.id}@north.example>"
    assert message.get_content().replace("\r\n", "\n").rstrip(".\n") == TEXT.rstrip()
    assert set(smtp.recipients) == {"bob@example.com"}


async def test_a_password_is_not_sent_in_plain_text(people: People) -> None:
    async with ScriptedSmtp.running() as smtp:
        url = f"smtp://me:secret@127.0.0.1:{smtp.port}"
        outbox = Outbox(people.database, SEALER, Smtp(url, SENDER), people.watch)
        await outbox.put("bob@example.com", "Hello", TEXT, "reset")
        await outbox.deliver_due()
        [mail] = await outbox.newest()

    assert (smtp.mails, smtp.sign_ins) == ([], [])
    assert mail.sent_at is None
    assert "secret" not in mail.error
