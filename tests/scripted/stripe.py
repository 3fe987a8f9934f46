"""A stand-in for Stripe: the payment pages that its library asks for, over real HTTP, and events signed as it does."""

import html
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import stripe

from leadline.billing.stripe_checkout import StripeCheckout

SECRET_KEY = "sk_test_scripted"
WEBHOOK_SECRET = "whsec_scripted"


@dataclass
class Asked:
    """A call of ours: what it wanted, by Stripe's own names of fields."""

    path: str
    fields: dict[str, str]
    idempotency_key: str | None


@dataclass
class ScriptedStripe:
    """The same idempotency key is answered with the same session; the next calls fail as often as `failures`."""

    failures: int = 0
    asked: list[Asked] = field(default_factory=list)
    sessions: dict[str | None, dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    @contextmanager
    def served(self) -> "Iterator[ScriptedStripe]":
        scripted = self

        class Handler(_Handler):
            stripe = scripted

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def checkout(self) -> StripeCheckout:
        """Ours, that asks here."""
        return StripeCheckout(SECRET_KEY, WEBHOOK_SECRET, self.url)

    def answer(self, asked: Asked, key: str | None) -> tuple[int, dict[str, Any]]:
        self.asked.append(asked)
        if key != f"Bearer {SECRET_KEY}":
            return 401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}
        if self.failures:
            self.failures -= 1
            return 400, {"error": {"type": "invalid_request_error", "message": "No", "code": "parameter_invalid"}}
        if asked.path != "/v1/checkout/sessions":
            return 404, {"error": {"type": "invalid_request_error", "message": f"Unrecognized request {asked.path}"}}
        number = len(self.sessions) + 1
        session = {
            "id": f"cs_test_{number}",
            "object": "checkout.session",
            "url": f"{self.url}/pay/{number}",
            "success_url": asked.fields["success_url"],
            "payment_status": "unpaid",
            "payment_intent": None,
            "amount_total": int(asked.fields["line_items[0][price_data][unit_amount]"]),
            "currency": asked.fields["line_items[0][price_data][currency]"],
            "metadata": _nested(asked.fields, "metadata"),
        }
        return 200, self.sessions.setdefault(asked.idempotency_key, session)

    def paid(self, number: int = 1, **changed: Any) -> dict[str, Any]:
        """The session of this number once it was paid."""
        session = list(self.sessions.values())[number - 1]
        return session | {"payment_status": "paid", "payment_intent": f"pi_{number}"} | changed


class _Handler(BaseHTTPRequestHandler):
    stripe: ScriptedStripe
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        asked = Asked(self.path, dict(parse_qsl(body)), self.headers.get("idempotency-key"))
        status, answer = self.stripe.answer(asked, self.headers.get("authorization"))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        """A payment page: who has paid there goes on to ours."""
        where = [one["success_url"] for one in self.stripe.sessions.values() if one["url"].endswith(self.path)]
        links = "".join(f'<a href="{html.escape(one)}">Pay</a>' for one in where)
        content = f"<!doctype html><title>Pay</title>{links}".encode()
        self.send_response(200 if where else 204)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def event(kind: str, content: dict[str, Any]) -> bytes:
    """The body of a webhook."""
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "data": {"object": content}}).encode()


def signed(body: bytes, secret: str = WEBHOOK_SECRET, seconds_ago: int = 0) -> str:
    """As Stripe's own library signs for tests."""
    return stripe.WebhookSignature.generate_signature_header(body.decode(), secret, int(time.time()) - seconds_ago)


def _nested(fields: dict[str, str], name: str) -> dict[str, str]:
    return {key[len(name) + 1 : -1]: text for key, text in fields.items() if key.startswith(f"{name}[")}
