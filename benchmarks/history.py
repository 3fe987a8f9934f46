"""An instance that has seen much: what benchmarks measure pages and requests beside.

One organisation has all requests: of 40 keys, 8 models and 3 endpoints in the last sixty days. One of fifty is rate
limited, one of a hundred failed, one of ten thousand of the older half had no credits. Each charge has its entry.
Beside it are other organisations and people, an audit log, mails, and receipts.
"""

import asyncio
import sys
from pathlib import Path

import apsw

from leadline.clock import MICROSECONDS_PER_DAY, now_microseconds
from leadline.ledger.books import index_entries
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import COUNTS, index_records
from leadline.money import usd
from leadline.storage.database import Database, Write
from leadline.storage.sqlite import SqliteTransaction

DATABASE = "leadline.db"
ORGANISATION = "org_0"
DAYS = 60
KEYS, MODELS, ENDPOINTS = 40, 8, 3
OTHER_ORGANISATIONS, MEMBERS, AUDIT_ROWS, MAILS, RECEIPTS = 2_000, 200, 200_000, 10_000, 300
_METERS = KEYS * MODELS * ENDPOINTS


async def prepare(folder: Path, requests: int, keys: int = KEYS) -> None:
    """Make `folder` an instance's, with so many requests and API keys. What one of before has stays as it is."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / DATABASE
    database = Database(path)
    [(recorded,)] = await database.rows("SELECT COALESCE(MAX(number), 0) FROM usage_records")
    if not recorded:
        ledger = Ledger(database)
        await database.commit(
            Write("INSERT INTO organisations (id, name, created_at) VALUES ($1, $1, 1)", (ORGANISATION,)),
            ledger.opening(ORGANISATION),
        )
        ledger.opened(ORGANISATION)
        await ledger.grant(ORGANISATION, usd("1000"), "benchmark")
        print(f"  writing {requests:,} requests …", file=sys.stderr, flush=True)
        await asyncio.to_thread(_fill, path, requests)
    await database.commit(
        Write(
            "INSERT INTO api_keys (id, organisation_id, name, digest, last_four, created_at)"
            f" {_numbers(keys)} SELECT 'key_' || i, $1, 'key-' || i, printf('%064x', i), 'abcd', $2 FROM n"
            " WHERE true ON CONFLICT (id) DO NOTHING",
            (ORGANISATION, now_microseconds()),
            rows=None,
        )
    )
    await database.close()


def _fill(path: Path, requests: int) -> None:
    """Straight into the tables."""
    connection = apsw.Connection(str(path))
    for pragma in ("synchronous=OFF", "cache_size=-200000"):
        connection.execute(f"PRAGMA {pragma}")
    now = now_microseconds()
    _write_company(connection, now)
    _write_records(connection, requests, now)
    _write_sums(connection)
    _write_entries(connection)
    [(index,)] = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'records_by_meter'")
    with connection:  # one at a time, into an index that is there, they would take many times as long
        connection.execute("DROP INDEX records_by_meter")
        index_records(SqliteTransaction(connection), ())
        connection.execute(index)
    connection.close()


def _numbers(count: int) -> str:
    return f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {count})"


def _write_company(connection: apsw.Connection, now: int) -> None:
    """Other organisations with an owner each, members, mails that were sent, receipts, the audit log."""
    place = (ORGANISATION, now)
    with connection:
        connection.execute(
            "INSERT INTO users (id, email, name, password_hash, created_at, verified_at, is_admin)"
            f" {_numbers(OTHER_ORGANISATIONS)} SELECT 'usr_' || i, 'user' || i || '@bench.example', 'User ' || i,"
            " '', ?1, ?1, 0 FROM n",
            (now,),
        )
        connection.execute(
            "INSERT INTO organisations (id, name, created_at)"
            f" {_numbers(OTHER_ORGANISATIONS)} SELECT 'org_' || (i + 1), 'Organisation ' || i, ?1 FROM n",
            (now,),
        )
        connection.execute(
            f"INSERT INTO accounts (organisation_id, balance_ticks) {_numbers(OTHER_ORGANISATIONS)}"
            " SELECT 'org_' || (i + 1), 0 FROM n"
        )
        connection.execute(
            f"INSERT INTO memberships {_numbers(OTHER_ORGANISATIONS)}"
            " SELECT 'org_' || (i + 1), 'usr_' || i, 'owner', ?1 FROM n",
            (now,),
        )
        connection.execute(
            f"INSERT INTO memberships {_numbers(MEMBERS)} SELECT ?1, 'usr_' || i, 'developer', ?2 FROM n", place
        )
        connection.execute(
            "INSERT INTO audit_log (id, at, actor, action, subject, before, after, organisation_id)"
            f" {_numbers(AUDIT_ROWS)} SELECT printf('aud_%026d', i), ?2 - ({AUDIT_ROWS} - i) * 1000000,"
            " 'usr_' || (i % 50), 'keys change', 'key_' || (i % 40), '{\"name\": \"a\"}', '{\"name\": \"b\"}',"
            " CASE i % 2 WHEN 0 THEN ?1 ELSE 'org_' || (i % 2000) END FROM n",
            place,
        )
        connection.execute(
            "INSERT INTO mails (id, because, content, created_at, attempts, next_attempt_at, sent_at, error)"
            f" {_numbers(MAILS)} SELECT printf('mail_%026d', i), 'sign-in', zeroblob(600), ?1 - i, 1, ?1, ?1, ''"
            " FROM n",
            (now,),
        )
        connection.execute(
            f"INSERT INTO receipts {_numbers(RECEIPTS)}"
            " SELECT 2026, i + 1, ?1, ?2 - i, 2000, 'payment_' || i, ?1, '', '', '' FROM n",
            place,
        )


def _write_records(connection: apsw.Connection, requests: int, now: int) -> None:
    connection.execute(
        f"INSERT INTO meters (organisation_id, key_id, model, endpoint) {_numbers(_METERS)} SELECT ?,"
        f" 'key_' || (i % {KEYS}), 'model_' || (i / {KEYS} % {MODELS}), '/v1/endpoint/' || (i / {KEYS * MODELS})"
        " FROM n",
        (ORGANISATION,),
    )
    connection.execute(
        f"INSERT INTO prices {_numbers(MODELS)}"
        " SELECT 'model_' || i, 0, 1, 'file', 3, 1, NULL, 5, NULL, 0, 0, 0, 0, 0, 0 FROM n"
    )
    connection.execute(
        "INSERT INTO usage_records (request_id, meter_id, began_at, at, status, error, streamed, prompt_tokens,"
        " cached_tokens, image_tokens, output_tokens, reasoning_tokens, cost_ticks, first_token_milliseconds,"
        " total_milliseconds) WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1),"
        f" r AS (SELECT i, ?2 + i * ?3 AS at, (SELECT MIN(id) FROM meters) + i * 7919 % {_METERS} AS meter_id,"
        " CASE WHEN i % 10007 = 0 AND i < ?1 / 2 THEN 'insufficient_credits' WHEN i % 50 = 3 THEN 'rate_limited'"
        " WHEN i % 100 = 7 THEN 'engine_failed' ELSE '' END AS error FROM n)"
        " SELECT substr(printf('%012x', at / 1000), 1, 8) || '-' || substr(printf('%012x', at / 1000), 9, 4)"
        " || printf('-7%03x-8%03x-%012x', i % 4096, i * 31 % 4096, i), meter_id, at, at,"
        " CASE error WHEN '' THEN 'finished' WHEN 'engine_failed' THEN 'failed' ELSE 'refused' END, error, 1,"
        " CASE error WHEN '' THEN 200 ELSE 0 END, CASE error WHEN '' THEN 100 ELSE 0 END, 0,"
        " CASE error WHEN '' THEN 50 ELSE 0 END, 0, CASE error WHEN '' THEN 650 ELSE 0 END, 12 + i % 500, 345 FROM r",
        (requests, now - DAYS * MICROSECONDS_PER_DAY, DAYS * MICROSECONDS_PER_DAY // requests),
    )


def _write_sums(connection: apsw.Connection) -> None:
    tokens = "SUM(prompt_tokens), SUM(cached_tokens), SUM(image_tokens), SUM(output_tokens), SUM(reasoning_tokens)"
    for table, period, length in (("usage_hours", "hour", 3_600_000_000), ("usage_days", "day", 86_400_000_000)):
        connection.execute(
            f"INSERT INTO {table} (meter_id, {period}, {', '.join(COUNTS)}) SELECT meter_id, at / {length}, COUNT(*),"
            f" SUM(status = 'failed'), SUM(status = 'refused'), {tokens}, SUM(cost_ticks) FROM usage_records"
            " GROUP BY 1, 2"
        )


def _write_entries(connection: apsw.Connection) -> None:
    """The digests are as long as real ones, and do not chain."""
    with connection:
        connection.execute(
            "INSERT INTO entries (id, organisation_id, at, kind, amount_ticks, reason, request_id, key_id, model,"
            " reserved_ticks, digest) SELECT r.request_id, m.organisation_id, r.at, 'charge', -r.cost_ticks, '',"
            " r.request_id, m.key_id, m.model, 2 * r.cost_ticks, printf('%032x', r.number)"
            " FROM usage_records r JOIN meters m ON m.id = r.meter_id WHERE r.cost_ticks > 0 ORDER BY r.number"
        )
        index_entries(SqliteTransaction(connection), ())
