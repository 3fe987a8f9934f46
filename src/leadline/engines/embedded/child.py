"""What a child process of an embedded engine does whatever its engine is: it hears its settings and tells that it is
ready, a line of JSON each, and ends when standard input closes, for then its parent is gone.

A child imports nothing else of Leadline, and has no secret but its own key.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any

_PR_SET_PDEATHSIG = 1


def take_standard_streams() -> tuple[int, dict[str, Any]]:
    """Keep standard output for our one line: libraries may print to it, so it gets standard error instead. Returns
    where to `tell` it, and the settings."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    report = os.dup(1)
    os.dup2(2, 1)
    return report, settings


def die_with_parent() -> None:
    """Linux kills us with the parent; everywhere, a thread waits for standard input to close."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    # The terminal sends Ctrl-C to the whole group; the parent decides when we end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def tell(report: int, message: dict[str, Any]) -> None:
    os.write(report, json.dumps(message).encode() + b"\n")
