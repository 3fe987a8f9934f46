"""PostgreSQL for tests: a database for each process that runs them, as empty before each test as a new one."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from leadline.storage.postgres import Postgres

SERVER = os.environ.get("LEADLINE_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")
CONNECT_SECONDS = 5


def skip_without_a_server() -> None:
    try:
        psycopg.connect(SERVER, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.OperationalError:
        pytest.skip("needs PostgreSQL at LEADLINE_TEST_POSTGRES")


@contextmanager
def new_database(encoding: str = "UTF8") -> Iterator[str]:
    """The URL of a database with nothing in it, gone afterwards."""
    skip_without_a_server()
    name = f"leadline_test_{uuid.uuid4().hex}"
    locale = "" if encoding == "UTF8" else " LC_COLLATE 'C' LC_CTYPE 'C'"
    ask(SERVER, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'{locale}")
    try:
        yield urlunsplit(urlsplit(SERVER)._replace(path=f"/{name}"))
    finally:
        ask(SERVER, f"DROP DATABASE {name} WITH (FORCE)")


def ask(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """What the last statement answers."""
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


_CHECKS = (
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
)


def unchecked(url: str) -> None:
    """From now on the database takes what no rule of its own allows."""
    ask(url, *(f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name, _ in ask(url, _CHECKS)), "SELECT 1")


class Emptied:
    """A database that is brought to the newest schema once, and emptied again and again."""

    def __init__(self, url: str) -> None:
        self.url = url
        Postgres(url).close()
        tables = ask(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        self._facts = ask(url, "SELECT name FROM facts WHERE name <> 'opened'")
        self._checks = ask(url, _CHECKS)
        sequences = ask(url, "SELECT sequencename FROM pg_sequences")
        self._empty = "; ".join(
            (
                "SET session_replication_role = replica",
                *(f"DELETE FROM {table}" for (table,) in tables if table != "migrations"),
                *(f"SELECT setval('{sequence}', 1, false)" for (sequence,) in sequences),
                *(f"INSERT INTO facts (name, value) VALUES ('{name}', 0)" for (name,) in self._facts),
            )
        )

    def empty(self) -> str:
        """Also of what a test left open."""
        ask(
            self.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            self._empty,
        )
        missing = {*self._checks} - {*ask(self.url, _CHECKS)}
        ask(
            self.url,
            "SELECT 1",
            *(f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule}" for table, name, rule in missing),
        )
        return self.url
