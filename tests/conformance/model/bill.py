"""The SDKs' own HTTP client, which notes what each answer said that it cost."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2

_COST = re.compile(rb'"cost_in_usd_ticks":(\d+)')


class Bill:
    """Ticks by request id, as the last usage of each answer to a POST told them."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    def note(self, request_id: str, body: bytes) -> None:
        if costs := _COST.findall(body):
            self.told[request_id] = int(costs[-1])


class Noting(httpx2.HTTPTransport):
    def __init__(self, bill: Bill) -> None:
        super().__init__()
        self._bill = bill

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if request.method == "POST":
            assert isinstance(response.stream, httpx2.SyncByteStream)
            response.stream = _Noted(response.stream, response.headers["x-request-id"], self._bill)
        return response


class _Noted(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, request_id: str, bill: Bill) -> None:
        self._stream, self._request_id, self._bill = stream, request_id, bill
        self._body = b""

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._body += piece
            yield piece

    def close(self) -> None:
        self._bill.note(self._request_id, self._body)
        self._stream.close()


def client(bill: Bill) -> Any:
    """For `http_client` of either SDK."""
    return httpx2.Client(transport=Noting(bill), timeout=300)
