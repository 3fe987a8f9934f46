"""A real server: the process `leadline serve` with the real default model, and the command line beside it."""

import json
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.cli.process import EMAIL, environment, init, leadline
from tests.weights import FOLDER

# Loading the weights on a busy machine, with much to spare.
DEADLINE_SECONDS = 300


class LiveServer:
    """Serves the data folder `data`, which is made: Mara's organisation has `usd` of credits and one key. The weights
    are the shared ones of all test runs, so that only the first run pulls them. `configuration`: its leadline.toml."""

    def __init__(self, data: Path, usd: str = "20", configuration: str = "") -> None:
        self.data, self.email = data, EMAIL
        data.mkdir(mode=0o700, parents=True)
        (data / "leadline.toml").write_text(configuration)
        (data / "models").symlink_to(FOLDER.absolute(), target_is_directory=True)
        made = init(data, "--credit", usd)
        assert made.code == 0, made.err
        self.api_key: str = made.json["api_key"]
        self._errors = data / "stderr.txt"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.listening", "serve", "--data", str(data), "--port", "0", "--json"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(__file__).parents[1],
                env=environment(),
            )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            serving = self._event("serving")
            self.base_url: str = serving["base_url"]
            self.grpc_address: str = serving["grpc_address"]
            self._event("ready")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def stop(self) -> None:
        """SIGTERM drains the server, and it exits with 0: all that it answered keeps to its grammar."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        assert code == 0, self._errors.read_text()

    def cli(self, *args: str) -> dict[str, Any]:
        """What `leadline ... --json` prints beside the running server."""
        done = leadline("--data", str(self.data), *args, "--json")
        assert done.code == 0, done.err
        result: dict[str, Any] = done.json
        return result

    def ledger(self) -> list[dict[str, Any]]:
        """The entries, the newest last."""
        entries: list[dict[str, Any]] = self.cli("credits", "ledger", self.email)["entries"]
        return entries

    def balance(self) -> dict[str, int]:
        return self.cli("credits", "balance", self.email)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def _event(self, name: str) -> dict[str, Any]:
        while line := self._lines.get(timeout=DEADLINE_SECONDS):
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(f"the server ended before it said {name}: {self._errors.read_text()}")
