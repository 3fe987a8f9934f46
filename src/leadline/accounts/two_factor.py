"""The second factor: codes of a phone (RFC 6238), each accepted once, and recovery codes for when it is lost."""

import hmac
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.accounts.users import User
from leadline.clock import MICROSECONDS_PER_SECOND, Clock, now_microseconds
from leadline.errors import InvalidRequest
from leadline.storage.database import Conflict, Database, Write
from leadline.storage.sealed import Sealer

RECOVERY_CODES = 10
_ISSUER = "Leadline"
_STEP = 30 * MICROSECONDS_PER_SECOND
# Without what is mistaken for something else. 12 of them are 59 bits, too many to try.
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"
_RECOVERY_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator application needs: `uri` as text, or as the picture `svg`; `secret` to type it."""

    secret: str
    uri: str
    svg: str


class TwoFactor:
    """The secrets of all users, sealed."""

    def __init__(self, database: Database, sealer: Sealer, clock: Clock = now_microseconds) -> None:
        self._database = database
        self._sealer = sealer
        self._clock = clock

    async def begin(self, user: User) -> Enrolment:
        """A new secret. It asks for nothing until it is confirmed; an earlier one that was not is forgotten."""
        import pyotp

        secret = pyotp.random_base32()
        write = Write(
            "UPDATE users SET totp_secret = $1, totp_last_step = 0 WHERE id = $2 AND totp_confirmed_at IS NULL",
            (self._sealer.seal(secret.encode(), _place(user.id)), user.id),
        )
        try:
            await self._database.commit(write)
        except Conflict:
            raise InvalidRequest("Two-factor sign-in is on already. Turn it off first.", "code") from None
        return _enrolment(user, secret)

    async def pending(self, user: User) -> Enrolment | None:
        """What `begin` gave, while it is not confirmed: a page that is shown again shows the same."""
        secret = await self._secret(user.id, confirmed=False)
        return None if secret is None else _enrolment(user, secret)

    async def confirm(self, user: User, code: str, actor: Actor) -> list[str]:
        """Turn it on with the first code, and give the recovery codes, which are never to be had again."""
        secret = await self._secret(user.id, confirmed=False)
        step = None if secret is None else self._step_of(secret, code)
        if step is None:
            raise InvalidRequest("This code is not right. Check the phone's clock, and type the newest code.", "code")
        now, (codes, writes) = self._clock(), _new_recovery_codes(user.id)
        turned_on = Write(
            "UPDATE users SET totp_confirmed_at = $1, totp_last_step = $2 WHERE id = $3 AND totp_confirmed_at IS NULL",
            (now, step, user.id),
        )
        changes = {"two_factor": False}, {"two_factor": True}
        try:
            await self._database.commit(turned_on, *writes, audited(now, actor, "users two-factor", user.id, changes))
        except Conflict:
            raise InvalidRequest("Two-factor sign-in is on already.", "code") from None
        return codes

    async def check(self, user: User, code: str) -> bool:
        """Whether it is the user's code of now, or one of his recovery codes. None is accepted twice."""
        user_id = user.id
        secret = await self._secret(user_id, confirmed=True)
        if secret is None:
            return False
        step = self._step_of(secret, code)
        write = (
            Write("DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2", (user_id, _digest(code)))
            if step is None
            else Write(
                "UPDATE users SET totp_last_step = $1 WHERE id = $2 AND totp_last_step < $1"
                " AND totp_confirmed_at IS NOT NULL",
                (step, user_id),
            )
        )
        try:
            await self._database.commit(write)
        except Conflict:
            return False
        return True

    async def turn_off(self, user: User, actor: Actor) -> None:
        """The password alone is asked for from now on. A second time changes nothing."""
        if not user.two_factor:
            return
        changes = {"two_factor": True}, {"two_factor": False}
        await self._database.commit(
            Write(
                "UPDATE users SET totp_secret = NULL, totp_confirmed_at = NULL, totp_last_step = 0 WHERE id = $1",
                (user.id,),
            ),
            Write("DELETE FROM recovery_codes WHERE user_id = $1", (user.id,), rows=None),
            audited(self._clock(), actor, "users two-factor", user.id, changes),
        )

    async def renew_recovery_codes(self, user: User, actor: Actor) -> list[str]:
        """New ones in the place of all that are left."""
        codes, writes = _new_recovery_codes(user.id)
        confirmed = Write(
            "UPDATE users SET totp_confirmed_at = totp_confirmed_at WHERE id = $1 AND totp_confirmed_at IS NOT NULL",
            (user.id,),
        )
        row = audited(self._clock(), actor, "users recovery-codes", user.id, ({}, {}))
        try:
            await self._database.commit(confirmed, *writes, row)
        except Conflict:
            raise InvalidRequest("Two-factor sign-in is off. Turn it on first.", "code") from None
        return codes

    async def recovery_codes_left(self, user_id: str) -> int:
        rows = await self._database.rows("SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1", user_id)
        return int(rows[0][0])

    async def _secret(self, user_id: str, *, confirmed: bool) -> str | None:
        rows = await self._database.rows(
            "SELECT totp_secret, totp_confirmed_at FROM users WHERE id = $1 AND totp_secret IS NOT NULL", user_id
        )
        if not rows or (rows[0][1] is not None) != confirmed:
            return None
        secret = self._sealer.open(rows[0][0], _place(user_id))
        return None if secret is None else secret.decode()

    def _step_of(self, secret: str, code: str) -> int | None:
        """The step of time whose code it is: this one, or one before or after it."""
        import pyotp

        digits = re.sub(r"\s", "", code)
        if not re.fullmatch(r"[0-9]{6}", digits):
            return None
        now, totp = self._clock() // _STEP, pyotp.TOTP(secret)
        for step in (now, now - 1, now + 1):
            if hmac.compare_digest(totp.generate_otp(step), digits):
                return step
        return None


def _enrolment(user: User, secret: str) -> Enrolment:
    import pyotp
    import segno

    uri = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=_ISSUER)
    svg = segno.make(uri, error="m", micro=False).svg_inline(scale=4, border=2, light="#fff")
    return Enrolment(secret, uri, svg)


def _new_recovery_codes(user_id: str) -> tuple[list[str], list[Write]]:
    """Codes as they are shown, and the writes that put them in the place of others."""
    texts = ["".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]
    shown = ["-".join(text[at : at + 4] for at in range(0, _RECOVERY_LENGTH, 4)) for text in texts]
    writes = [Write("DELETE FROM recovery_codes WHERE user_id = $1", (user_id,), rows=None)]
    insert = "INSERT INTO recovery_codes (user_id, digest) VALUES ($1, $2)"
    return shown, writes + [Write(insert, (user_id, _digest(text))) for text in texts]


def _digest(code: str) -> str:
    return sha256(re.sub(r"[\s-]", "", code[:100].lower()).encode("utf-8", "surrogatepass")).hexdigest()


def _place(user_id: str) -> str:
    return f"totp {user_id}"
