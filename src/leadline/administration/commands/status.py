"""How the server is (`status`), and whether all is well with it (`doctor`)."""

import asyncio
import stat
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from leadline.administration.backups import list_backups
from leadline.administration.commands.command import Command, Result
from leadline.administration.engine_facts import EngineFacts, engine_facts
from leadline.administration.instance import Instance
from leadline.administration.models import sections
from leadline.administration.system import SystemFacts, system_facts
from leadline.catalog.prices import configured_prices
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_SECOND
from leadline.ledger.audit import audit
from leadline.storage.schema import newest_schema

_LITTLE_DISK_BYTES, _TOO_LITTLE_DISK_BYTES = 5_000_000_000, 500_000_000
_OLD_BACKUP = 7 * MICROSECONDS_PER_DAY
_REACH_SECONDS = 5

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and how to put it right."""

    level: Level
    text: str
    fix: str = ""


async def show_status(instance: Instance) -> Result:
    """`running`: a server has the folder open, else the figures are those of a closed one."""
    engines, system = engine_facts(instance), await system_facts(instance)
    now, runs = instance.keys.clock(), instance.activity is not None
    return {
        "running": runs,
        "ready": runs and system.writable and any(one.status.ready for one in engines),
        "version": system.version,
        "base_url": instance.base_url,
        "local_url": instance.local_url,
        "uptime_seconds": (now - system.opened_at) // MICROSECONDS_PER_SECOND if runs else None,
        "engines": [_engine(one) for one in engines],
        "running_requests": sum(one.running for one in engines),
        "tokens_per_second": round(sum(one.tokens_per_second for one in engines), 1),
        "memory_bytes": system.memory_bytes if runs else None,
        "disk_free_bytes": system.disk_free_bytes,
        "database": {
            **asdict(system.database),
            "waiting": system.database_waiting,
            "writable": system.writable,
        },
        "data": system.data,
    }


async def examine(instance: Instance) -> Result:
    """Every check by itself: one that fails does not keep the others from being made."""
    findings: list[Finding] = []
    for check in _CHECKS:
        try:
            findings += await check(instance)
        except Exception as error:  # whatever it is, it is what the doctor is asked for
            findings.append(Finding("problem", f"A check failed: {error}", "The log says more: logs/ in the folder."))
    levels = [finding.level for finding in findings]
    return {
        "ok": "problem" not in levels,
        "problems": levels.count("problem"),
        "warnings": levels.count("warning"),
        "findings": [asdict(finding) for finding in findings],
    }


READS: dict[str, Command] = {"status": show_status, "doctor": examine}
CHANGES: dict[str, Command] = {}


def _engine(one: EngineFacts) -> Result:
    return {
        "name": one.name,
        "kind": one.kind,
        "models": list(one.models),
        "ready": one.status.ready,
        "state": one.status.state,
        "detail": one.status.detail,
        "running": one.running,
        "waiting": one.status.waiting,
        "tokens_per_second": round(one.tokens_per_second, 1),
        "memory_bytes": one.status.memory_bytes,
        "claimed_bytes": one.status.claimed_bytes,
        "limit_bytes": one.status.limit_bytes,
        "workers": [asdict(worker) for worker in one.status.workers],
    }


async def _place(instance: Instance) -> list[Finding]:
    """The program and its folder."""
    system = await system_facts(instance)
    free = f"{system.disk_free_bytes / 1e9:,.1f} GB free"
    python = f"Leadline {system.version} on Python {system.python}"
    if system.disk_free_bytes < _LITTLE_DISK_BYTES:
        level: Level = "problem" if system.disk_free_bytes < _TOO_LITTLE_DISK_BYTES else "warning"
        disk = Finding(level, f"The disk of {system.data} has {free}.", "Free some space: logs, backups, weights.")
    else:
        disk = Finding("ok", f"{system.data} can be written, {free}.")
    return [Finding("ok", f"{python}."), disk, *_secret(instance)]


def _secret(instance: Instance) -> Iterator[Finding]:
    path = instance.data / "secret"
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Finding("problem", f"Others can read {path}.", f"chmod 600 {path}")


async def _books(instance: Instance) -> list[Finding]:
    """The database, its ledger and its backups."""
    system = await system_facts(instance)
    return [_database(system), await _ledger(instance), await _backup(instance)]


def _database(system: SystemFacts) -> Finding:
    facts = system.database
    about = f"Database: {facts.product} {facts.version}, schema {facts.schema}, {facts.size_bytes / 1e6:,.1f} MB"
    if not system.writable:
        return Finding("problem", f"{about}; the last write failed.", "Check the disk and its free space.")
    if facts.schema != newest_schema():
        return Finding("problem", f"{about}, not {newest_schema()}.", "leadline db upgrade")
    return Finding("ok", f"{about}.")


async def _ledger(instance: Instance) -> Finding:
    audited = await audit(instance.database, instance.ledger)
    if audited.broken:
        return Finding("problem", f"The ledger: {audited.broken[0]}.", "leadline credits verify --json")
    return Finding("ok", f"Ledger: {audited.checked:,} entries, every rule holds.")


async def _backup(instance: Instance) -> Finding:
    """Those that the server keeps: of others nothing is known here."""
    if not instance.config.database.in_folder:
        return Finding("ok", "Backups: those of PostgreSQL, such as pg_dump makes, are not known here.")
    kept, now = await list_backups(instance.data), instance.keys.clock()
    how = "Back up now under System in the console, or with: leadline db backup FILE"
    if not kept:
        return Finding("warning", "There is no backup in the data folder.", how)
    days = (now - kept[0].at) // MICROSECONDS_PER_DAY
    if now - kept[0].at > _OLD_BACKUP:
        return Finding("warning", f"The last backup in the data folder is {days} days old.", how)
    return Finding("ok", f"Last backup: {kept[0].name}.")


async def _engines(instance: Instance) -> list[Finding]:
    if instance.activity is None:
        return [Finding("warning", "No server runs on this folder.", "leadline serve")]
    findings = []
    for one in engine_facts(instance):
        findings += _workers(one)
        about = f"Engine {one.name} ({one.kind}), {', '.join(one.models) or 'no model'}"
        if one.status.ready:
            findings.append(Finding("ok", f"{about}: {_sentence(one.status.detail)}"))
        else:
            loads = one.status.state in ("loading", "restarting")
            how = "Wait until it has loaded." if loads else "See Engines in the console, and the log."
            findings.append(Finding("warning" if loads else "problem", f"{about}: {_sentence(one.status.detail)}", how))
        if one.choices:
            findings.append(Finding("ok", f"Engine {one.name} runs with {'; '.join(one.choices)}."))
    return findings


def _workers(one: EngineFacts) -> list[Finding]:
    """The servers of an engine of several that take no requests."""
    return [
        Finding("warning", f"Worker {worker.at} of {one.name}: {_sentence(worker.detail)}", "Is it running?")
        for worker in one.status.workers
        if worker.state in ("away", "broken")
    ]


async def _models(instance: Instance) -> list[Finding]:
    _, models = sections(instance.config)
    free = [
        one.name
        for one in models
        if configured_prices(one).is_free and instance.prices.at(one.name, instance.keys.clock()).is_free
    ]
    how = "leadline models price NAME --input 0.10 --output 0.40"
    return [Finding("warning", f"{name} has no prices: its answers cost nothing.", how) for name in free]


async def _mail(instance: Instance) -> list[Finding]:
    if not instance.outbox.sends:
        how = 'In leadline.toml: [smtp] url = "smtps://user:password@mail.example:465" and from'
        return [Finding("warning", "Mail is not set up: links stay in the outbox of the console.", how)]
    counts = await instance.outbox.counts()
    if counts.given_up:
        how = "See Mail in the console for why."
        return [Finding("warning", f"{counts.given_up} mails of the last week could not be sent.", how)]
    return [Finding("ok", "Mail is set up.")]


async def _reach(instance: Instance) -> list[Finding]:
    """Whether clients reach the server where the configuration says."""
    url = instance.config.server.public_url
    if url is None or instance.activity is None:
        return []
    try:
        await asyncio.to_thread(_get, f"{url.rstrip('/')}/health/live")
    except (OSError, ValueError) as error:
        how = "Is the proxy in front of it running, and does it pass to this server?"
        return [Finding("problem", f"{url} does not reach this server: {error}.", how)]
    return [Finding("ok", f"{url} reaches this server.")]


async def _certificates(instance: Instance) -> list[Finding]:
    named = (instance.config.grpc.tls_certificate, instance.config.grpc.tls_private_key)
    missing = await asyncio.to_thread(lambda: [name for name in named if name is not None and not Path(name).is_file()])
    return [Finding("problem", f"[grpc] names {name}, which is not there.", "Correct the path.") for name in missing]


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."


def _get(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise ValueError("it is no http or https address")
    with urllib.request.urlopen(url, timeout=_REACH_SECONDS) as answer:  # noqa: S310 the scheme was looked at
        answer.read(1)


_CHECKS: tuple[Callable[[Instance], Awaitable[list[Finding]]], ...] = (
    *(_place, _books, _engines, _models, _mail, _reach, _certificates),
)
