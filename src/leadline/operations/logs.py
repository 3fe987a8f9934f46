"""Structured logs: one JSON object a line in the data folder, short lines at a terminal. Never a prompt or a key."""

import logging
import logging.handlers
import queue
import sys
from pathlib import Path

import msgspec

from leadline.web.access import NAME as ACCESS

_LONGEST_FILE_BYTES = 20 * 1024 * 1024
_FILES = 3
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Time, level, logger, message and whatever `extra` holds. Lines of the access log come as they are to be."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == ACCESS:
            return record.getMessage()
        line: dict[str, object] = {
            "at": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def start_logging(folder: Path) -> logging.handlers.QueueListener:
    """Log to `folder` from a thread of its own, and warnings to the terminal. Stop the listener at the end."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = logging.handlers.RotatingFileHandler(
        folder / "leadline.log", maxBytes=_LONGEST_FILE_BYTES, backupCount=_FILES, encoding="utf-8"
    )
    file.setFormatter(JsonLines())
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    if sys.stderr.isatty():
        terminal.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    else:
        terminal.setFormatter(JsonLines())
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(logging.handlers.QueueHandler(records))
    listener = logging.handlers.QueueListener(records, file, terminal, respect_handler_level=True)
    listener.start()
    return listener
