"""One instance: a data folder with its configuration, secret, books, keys and models."""

import asyncio
import fcntl
import hashlib
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from leadline.accounts.audit_log import AuditLog
from leadline.accounts.guard import Guard
from leadline.accounts.keys import ApiKeys
from leadline.accounts.links import Links
from leadline.accounts.mail import Outbox
from leadline.accounts.management_keys import ManagementKeys
from leadline.accounts.organisations import Organisations
from leadline.accounts.passwords import Passwords
from leadline.accounts.sessions import Sessions
from leadline.accounts.two_factor import TwoFactor
from leadline.accounts.users import Users
from leadline.administration.activity import Activity
from leadline.administration.ledger_check import LedgerCheck
from leadline.administration.pulls import Pulls
from leadline.administration.served import Served
from leadline.billing.billing import Billing
from leadline.catalog.price_book import PriceBook
from leadline.clock import now_microseconds
from leadline.config import Config, load, origins
from leadline.engines.engine import Engine
from leadline.errors import LeadlineError
from leadline.ledger.ledger import Ledger
from leadline.storage.closed import schema_of
from leadline.storage.database import Database, DatabaseUnusable
from leadline.storage.sealed import Sealer

# The file of the books, where they are in the folder.
DATABASE = "leadline.db"
# Unix socket paths are cut at 108 bytes on Linux and 104 on macOS.
_LONGEST_SOCKET_PATH = 100


class InstanceInUse(LeadlineError):
    """Another Leadline is using this data folder."""


class SecretUnusable(LeadlineError):
    """The instance's secret cannot be used."""


@dataclass(slots=True)
class Instance:
    """An opened instance. `base_url` and `grpc_address` are where clients reach it, the latter once a server runs, and
    `local_url` is where programs of this machine do; `engines` are those that run here, by name, and `activity` what
    they do now; `served` is what changes them. Whoever changes what is offered holds `changing`. `origins` tell where
    settings come from that are no defaults; `opened_at` is in microseconds."""

    data: Path
    config: Config
    database: Database
    ledger: Ledger
    keys: ApiKeys
    organisations: Organisations
    passwords: Passwords
    users: Users
    sessions: Sessions
    links: Links
    guard: Guard
    two_factor: TwoFactor
    outbox: Outbox
    audit_log: AuditLog
    management_keys: ManagementKeys
    prices: PriceBook
    billing: Billing
    sealer: Sealer
    base_url: str
    origins: Mapping[str, str]
    pulls: Pulls
    ledger_check: LedgerCheck
    opened_at: int
    _lock: IO[str]
    engines: Mapping[str, Engine] = field(default_factory=dict)
    grpc_address: str | None = None
    local_url: str | None = None
    activity: Activity | None = None
    served: Served | None = None
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(cls, data: Path) -> "Instance":
        """Open the folder, making what is missing. InstanceInUse while another process has it open."""
        os.makedirs(data, mode=0o700, exist_ok=True)
        config, found = load(data / "leadline.toml"), origins(data / "leadline.toml")
        lock = lock_folder(data)
        try:
            secret = read_secret(data)
            pepper = hashlib.blake2b(secret, person=b"leadline-pepper").digest()
            sealer = Sealer(secret)
            database = Database(data / DATABASE if config.database.in_folder else config.database.url)
            ledger, keys, prices = Ledger(database), ApiKeys(database, pepper), PriceBook(database)
            organisations, sessions, passwords = Organisations(database), Sessions(database), Passwords()
            management_keys = ManagementKeys(database, pepper)
            outbox = Outbox(database, sealer, config.smtp)
            billing = Billing.of(database, ledger, organisations, outbox)
            billing.top_ups.expire_after_days = config.credits.expire_after_days
            parts = (ledger, keys, prices, organisations, sessions, management_keys, billing)
            await asyncio.gather(*(part.load() for part in parts))
        except BaseException:
            lock.close()
            raise
        organisations.leaving = keys.leaving
        base_url = (config.server.public_url or "http://localhost:8080").rstrip("/")
        return cls(
            data,
            config,
            database,
            ledger=ledger,
            keys=keys,
            organisations=organisations,
            passwords=passwords,
            users=Users(database, passwords, sessions),
            sessions=sessions,
            links=Links(database),
            guard=Guard(),
            two_factor=TwoFactor(database, sealer),
            outbox=outbox,
            audit_log=AuditLog(database),
            management_keys=management_keys,
            prices=prices,
            billing=billing,
            sealer=sealer,
            base_url=base_url,
            origins=found,
            pulls=Pulls(data),
            ledger_check=LedgerCheck(database, ledger),
            opened_at=now_microseconds(),
            _lock=lock,
        )

    async def close(self) -> None:
        """Write what waits for its turn, as far as the disk takes it, and let go of the folder."""
        await self.pulls.close()
        await self.ledger_check.close()
        with suppress(DatabaseUnusable):
            await self.keys.write_last_used()
            await self.management_keys.write_last_used()
            await self.sessions.write_seen()
            await self.ledger.write_noted()
        await self.ledger.close()
        self.passwords.close()
        await self.database.close()
        self._lock.close()


def is_set_up(data: Path) -> bool:
    """Whether an instance was made here: opening it would make one."""
    if load(data / "leadline.toml").database.in_folder:
        return (data / DATABASE).exists()
    return "LEADLINE_SECRET" in os.environ or (data / "secret").exists()


def schema_now(data: Path) -> int:
    """The schema of the instance's database, which stays as it is."""
    config = load(data / "leadline.toml")
    if config.database.in_folder:
        return schema_of(data / DATABASE)
    from leadline.storage.postgres import schema_at

    return schema_at(config.database.url)


def control_socket(data: Path) -> Path:
    """Where a running server listens for commands: in the folder, or in a private one where the path is too long."""
    inside = data.resolve() / "control.sock"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_PATH:
        return inside
    name = hashlib.blake2b(os.fsencode(inside), digest_size=8).hexdigest()
    return runtime_folder() / f"{name}.sock"


def runtime_folder() -> Path:
    """A short folder of this user alone, for sockets."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "leadline" if base else Path("/tmp") / f"leadline-{os.getuid()}"  # noqa: S108 checked below
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    state = folder.lstat()
    if state.st_uid != os.getuid() or state.st_mode & 0o077 or folder.is_symlink():
        raise LeadlineError(f"{folder} is not a private folder of this user. Remove it, then try again.")
    return folder


def lock_folder(data: Path) -> IO[str]:
    """The folder's lock, held until the file is closed: two processes on one ledger would each trust their memory."""
    lock = (data / "lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise InstanceInUse(
            f"Another Leadline is using {data}. Stop it first, or give another folder with --data."
        ) from None
    return lock


def read_secret(data: Path) -> bytes:
    """The instance's secret, from LEADLINE_SECRET or the file `secret`, which only its owner may read."""
    given = os.environ.get("LEADLINE_SECRET")
    path = data / "secret"
    if given is None and not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(descriptor)
    text = (given if given is not None else path.read_text("utf-8")).strip()
    if len(text) < 32:
        where = "LEADLINE_SECRET" if given is not None else str(path)
        raise SecretUnusable(
            f"{where} must hold at least 32 characters. Restore it, or the API keys cannot be checked."
        )
    return text.encode()
