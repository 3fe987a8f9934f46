"""What is mailed to people. Without a mail server it stays in the outbox, where the instance's admins see it."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Any
from urllib.parse import unquote, urlsplit

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_SECOND, Clock, now_microseconds
from leadline.config import Smtp
from leadline.errors import LeadlineError
from leadline.ids import new_ordered_id
from leadline.storage.database import Database, Row, Write
from leadline.storage.sealed import Sealer

GIVEN_UP_AFTER = MICROSECONDS_PER_DAY
KEPT = 7 * MICROSECONDS_PER_DAY
MOST_SHOWN = 200
_FIRST_RETRY, _LONGEST_RETRY = 30 * MICROSECONDS_PER_SECOND, 3600 * MICROSECONDS_PER_SECOND
_LOOK_EVERY_SECONDS = 30
_SMTP_SECONDS = 30
_log = logging.getLogger("leadline.mail")


@dataclass(frozen=True, slots=True)
class Mail:
    """A plain text for one address. `because` says what it is about (`reset`, `invite`). Times are in microseconds;
    `error` is why the last attempt failed."""

    id: str
    to: str
    subject: str
    text: str
    because: str
    created_at: int
    attempts: int = 0
    sent_at: int | None = None
    given_up_at: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class MailCounts:
    """How many wait, were sent, and were given up."""

    waiting: int
    sent: int
    given_up: int


# Gives a mail to a mail server, or raises.
Send = Callable[[Smtp, EmailMessage], Awaitable[None]]


async def send(smtp: Smtp, message: EmailMessage) -> None:
    """By SMTP. `smtps` is TLS from the start; `smtp` becomes TLS where the server can, and must before a password."""
    import aiosmtplib

    assert smtp.url is not None
    url = urlsplit(smtp.url)
    secured = url.scheme == "smtps"
    named = url.username is not None
    await aiosmtplib.send(
        message,
        # One, whatever else a header can be read as.
        recipients=[str(message["To"])],
        hostname=url.hostname,
        port=url.port or (465 if secured else 587),
        username=unquote(url.username) if url.username is not None else None,
        password=unquote(url.password) if url.password is not None else None,
        use_tls=secured,
        start_tls=False if secured else (True if named else None),
        timeout=_SMTP_SECONDS,
    )


class Outbox:
    """The mails of the last days. `deliver` must be kept going beside it."""

    def __init__(
        self, database: Database, sealer: Sealer, smtp: Smtp, clock: Clock = now_microseconds, send: Send = send
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._smtp = smtp
        self._clock = clock
        self._send = send
        self._put = asyncio.Event()

    @property
    def sends(self) -> bool:
        """Whether there is a mail server."""
        return self._smtp.url is not None

    async def put(self, to: str, subject: str, text: str, because: str) -> None:
        await self._database.commit(self.putting(to, subject, text, because))
        self.look()

    def putting(self, to: str, subject: str, text: str, because: str) -> Write:
        """As `put`, in one commit with what the mail tells; `look` follows it."""
        mail_id, now = new_ordered_id("mail"), self._clock()
        content = json.dumps([to, subject, text], ensure_ascii=False).encode()
        return Write(
            "INSERT INTO mails (id, because, content, created_at, attempts, next_attempt_at, error)"
            " VALUES ($1, $2, $3, $4, 0, $4, '')",
            (mail_id, because, self._sealer.seal(content, _place(mail_id)), now),
        )

    @staticmethod
    def dropping(because: str) -> Write:
        """No mail of this kind is kept."""
        return Write("DELETE FROM mails WHERE because = $1", (because,), rows=None)

    def look(self) -> None:
        """There may be something to send."""
        self._put.set()

    async def newest(self, limit: int = 50, before: str | None = None, *, oldest_first: bool = False) -> list[Mail]:
        """For admins of the instance alone: links are in them. `before` is the id of a page's last mail. With
        `oldest_first` they are those after it."""
        compared, order = (">", "ASC") if oldest_first else ("<", "DESC")
        rows = await self._database.rows(
            f"{_SELECT} WHERE id {compared} $1 ORDER BY id {order} LIMIT $2",
            *(before or ("" if oldest_first else "mail_g"), max(1, min(limit, MOST_SHOWN))),
        )
        return [mail for row in rows if (mail := self._opened(row)) is not None]

    async def get(self, mail_id: str) -> Mail | None:
        """For admins of the instance alone, as `newest`."""
        rows = await self._database.rows(f"{_SELECT} WHERE id = $1", mail_id)
        return self._opened(rows[0]) if rows else None

    async def counts(self) -> MailCounts:
        """Of what is kept."""
        [counted] = await self._database.rows(
            "SELECT COALESCE(SUM(CASE WHEN sent_at IS NULL AND given_up_at IS NULL THEN 1 ELSE 0 END), 0),"
            " COALESCE(SUM(CASE WHEN sent_at IS NOT NULL THEN 1 ELSE 0 END), 0),"
            " COALESCE(SUM(CASE WHEN given_up_at IS NOT NULL THEN 1 ELSE 0 END), 0) FROM mails"
        )
        return MailCounts(*counted)

    async def deliver(self) -> None:
        """Go on until cancelled: send what is due."""
        while self.sends:
            self._put.clear()
            try:
                await self.deliver_due()
            except LeadlineError as error:
                _log.warning("mails were put off", extra={"why": str(error)})
            except Exception:
                _log.exception("mails failed")
            try:
                await asyncio.wait_for(self._put.wait(), _LOOK_EVERY_SECONDS)
            except TimeoutError:
                continue

    async def deliver_due(self) -> None:
        """One attempt for each mail that is due, the oldest first."""
        due = await self._database.rows(
            f"{_SELECT} WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= $1 ORDER BY id LIMIT 100",
            self._clock(),
        )
        for row in due:
            mail = self._opened(row)
            await self._database.commit(
                Write("UPDATE mails SET given_up_at = $1, error = 'damaged' WHERE id = $2", (self._clock(), row[0]))
                if mail is None
                else await self._attempt(mail)
            )

    async def _attempt(self, mail: Mail) -> Write:
        """Try, and give the write that tells how it went."""
        try:
            await self._send(self._smtp, self._message(mail))
        except Exception as error:  # whatever it is, the mail waits or is given up
            now, attempts = self._clock(), mail.attempts + 1
            wait = min(_LONGEST_RETRY, _FIRST_RETRY * 2 ** min(mail.attempts, 20))
            given_up = now + wait - mail.created_at > GIVEN_UP_AFTER
            _log.warning(
                "a mail was not sent",
                extra={"mail": mail.id, "why": type(error).__name__, "attempts": attempts, "given_up": given_up},
            )
            return Write(
                "UPDATE mails SET attempts = $1, next_attempt_at = $2, given_up_at = $3, error = $4 WHERE id = $5",
                (attempts, now + wait, now if given_up else None, f"{type(error).__name__}: {error}"[:300], mail.id),
            )
        return Write(
            "UPDATE mails SET attempts = attempts + 1, sent_at = $1, error = '' WHERE id = $2", (self._clock(), mail.id)
        )

    async def prune(self) -> None:
        """Forget those of a week ago."""
        await self._database.commit(
            Write("DELETE FROM mails WHERE created_at < $1", (self._clock() - KEPT,), rows=None)
        )

    def _message(self, mail: Mail) -> EmailMessage:
        assert self._smtp.sender is not None
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._smtp.sender, mail.to, mail.subject
        message["Date"] = formatdate(mail.created_at // MICROSECONDS_PER_SECOND, usegmt=True)
        # The same at each attempt, so that a mail that arrives twice is known to be one.
        message["Message-ID"] = f"<{mail.id}@{parseaddr(self._smtp.sender)[1].rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        return message

    def _opened(self, row: Row) -> Mail | None:
        """None where it was sealed with another secret, or was damaged."""
        mail_id, because, content, created_at, attempts, sent_at, given_up_at, error = row
        opened = self._sealer.open(content, _place(mail_id))
        if opened is None:
            return None
        words: list[Any] = json.loads(opened)
        to, subject, text = words
        return Mail(mail_id, to, subject, text, because, created_at, attempts, sent_at, given_up_at, error)


_SELECT = "SELECT id, because, content, created_at, attempts, sent_at, given_up_at, error FROM mails"


def _place(mail_id: str) -> str:
    return f"mail {mail_id}"
