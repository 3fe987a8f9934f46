"""What all tests share: the scripted server; password hashes, databases and clients that cost little."""

import os
import signal
import ssl
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, settings

from leadline.storage import sqlite
from tests.scripted.server import ScriptedServer

# A suite in the background has Ctrl C ignored, and so would whatever it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no failure. `make check` takes the second profile, `make proof` the third.
settings.register_profile(
    "suite", deadline=None, max_examples=100, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("check", settings.get_profile("suite"), max_examples=25)
settings.register_profile("proof", settings.get_profile("suite"), max_examples=2000)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI nothing is skipped: what a test needs has to be there."""
    report = yield
    if report.skipped and os.environ.get("LEADLINE_CI") == "1":
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Within this process; the command line's own processes hash as always."""
    with pytest.MonkeyPatch.context() as patch:
        cheap = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr("leadline.accounts.passwords.PasswordHasher", cheap)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_certificates() -> Iterator[None]:
    """No test speaks TLS, and each client of an SDK would read hundreds of certificates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def schema_made_once() -> Iterator[None]:
    """Within this process a new database begins as a copy of one that the migrations made."""
    migrate = sqlite._migrate
    made = apsw.Connection(":memory:")
    migrate(made)

    def copy_first(connection: apsw.Connection) -> None:
        if not list(connection.execute("SELECT 1 FROM sqlite_schema")):
            with connection.backup("main", made, "main") as copying:
                copying.step()
        migrate(connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite, "_migrate", copy_first)
        yield


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """A fresh server on the scripted engine, with one dollar of credits."""
    server = ScriptedServer(tmp_path / "data")
    yield server
    server.stop()
