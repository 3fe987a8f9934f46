"""The access log: a line for each request, with nothing in it that was sent beside its path."""

import logging
import time

_log = logging.getLogger("leadline.access")


def log_request(what: str, method: str, path: str, status: int, began: float, **more: str) -> None:
    """`what` is a `request` of an API, or a `page`; `began` is the monotonic clock's, in seconds; `more` is what else
    the line says, such as `request_id`."""
    seconds = round(time.monotonic() - began, 4)
    told = {"method": method[:20], "path": path[:200], "status": status, "seconds": seconds}
    _log.info(what, extra=more | told)
