"""Pages that show each macro, and the frame around them, under the console's own policy.

`python -m tests.console.gallery` serves them for a look by hand."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from leadline.accounts.roles import PERMISSIONS, Permission, Role
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, now_microseconds
from leadline.console.render import TEMPLATES, environment_of
from leadline.console.static import serve_static
from leadline.money import usd

# CONTRACT 8, and trusted types besides: no script of ours makes HTML out of text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'"
)
PATHS = (
    *("/gallery", "/gallery/open", "/gallery/kept", "/keys", "/keys/none", "/viewer", "/long", "/start", "/plain"),
    *("/error/403", "/error/404", "/error/410", "/error/429", "/error/500", "/error-within"),
)
_OWN = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
_ENVIRONMENT = environment_of(jinja2.ChoiceLoader([_OWN, TEMPLATES]))


@dataclass(frozen=True)
class Person:
    """What the frame shows of a user."""

    email: str = "mara@northwind.example"
    name: str = "Mara Lindqvist"


@dataclass(frozen=True)
class Member:
    """What the frame shows of a membership."""

    organisation_id: str
    organisation: str
    role: Role = "owner"
    suspended_at: int | None = None


@dataclass(frozen=True)
class Credits:
    """What the frame shows of the balance."""

    available_ticks: int = usd("18.42")
    of_ticks: int = usd(50)
    days_left: int | None = 9
    percent: int = 37
    low: bool = False


NORTHWIND = Member("org_1", "Northwind Labs")


@dataclass(frozen=True)
class Visitor:
    """As pages know somebody who is signed in."""

    page: str = "keys"
    path: str = "/keys"
    base_url: str = "http://localhost:8080"
    user: Person = Person()
    organisation: Member = NORTHWIND
    organisations: tuple[Member, ...] = (NORTHWIND, Member("org_2", "Contoso Research and Development", "developer"))
    balance: Credits = Credits()
    is_admin: bool = True
    notices: list[tuple[str, str]] = field(default_factory=list)

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.organisation.role]


_LOW = Credits(usd("0.42"), usd(50), 0, 1, low=True)
_VIEWER = Visitor(
    organisation=Member("org_1", "Northwind Labs", "viewer"),
    organisations=(Member("org_1", "Northwind Labs", "viewer"),),
    balance=_LOW,
    is_admin=False,
    notices=[("good", "Charlie was invited."), ("bad", "The mail could not be sent.")],
)
_LONG = Member("org_1", "NorthwindLaboratoriesForResearchAndDevelopment" * 2)
_WORDY = Visitor(
    user=Person("m" * 60 + "@northwind.example", "Mara Wilhelmina Lindqvist of Northwind " * 3),
    organisation=_LONG,
    organisations=(_LONG, NORTHWIND),
    balance=Credits(usd("12345678.90"), usd(99_999_999), 1234, 12),
    notices=[("info", "averylongwordthatnobodyhyphenates" * 6)],
)
_DAYS = (9, 14, 11, 12, 7, 3, 2, 13, 16, 12, 15, 11, 4, 3)


def _keys(now: int) -> list[dict[str, object]]:
    whole: dict[str, object] = {"access": ["All endpoints", "All models"], "off": False, "cap": usd(5), "soon": False}
    return [
        whole
        | {"name": "web-production", "shown": "ll_7Qx2vTzW…f3A9", "spent": usd("19.84"), "cap": usd(40)}
        | {"percent": 50, "days": _DAYS, "used_at": now - 12_000_000, "address": "203.0.113.24", "expires_at": None},
        whole
        | {"name": "support-summaries", "shown": "ll_m4TzKw81…08Lc", "spent": usd("8.47"), "cap": usd(10)}
        | {"access": ["/v1/messages", "smollm2-135m-instruct"], "percent": 85, "days": _DAYS[::-1]}
        | {
            "used_at": now - 190_000_000,
            "address": "198.51.100.7",
            "expires_at": now + 6 * MICROSECONDS_PER_DAY + MICROSECONDS_PER_HOUR,
        }
        | {"soon": True},
        whole
        | {"name": "nightly-embeddings", "shown": "ll_Rk91bb0A…yP2e", "spent": usd("4.81"), "percent": 96}
        | {"access": ["/v1/embeddings", "bge-small-en-v1.5"], "days": (0, 0, 90, 0, 0, 80, 0, 0, 0, 84, 0, 0, 91, 0)}
        | {"used_at": now - 9 * MICROSECONDS_PER_HOUR, "address": "10.0.4.12"}
        | {"expires_at": now + 76 * MICROSECONDS_PER_DAY},
        whole
        | {"name": "old-staging", "shown": "ll_Wf08zz1c…uM1d", "spent": 0, "cap": None, "percent": None}
        | {"days": (0,) * 14, "used_at": None, "address": "", "expires_at": None, "off": True},
    ]


def _long_keys() -> list[dict[str, object]]:
    long = {"name": "production-" * 7, "access": ["/v1/chat/completions", "organisation/" + "model-" * 14]}
    return [{**key, **long} for key in _keys(now_microseconds())]


def _chart() -> dict[str, object]:
    labels = [f"{day} Nov" for day in range(1, 31)]
    week = (1.02, 1.1, 1.06, 1.0, 0.93, 0.46, 0.38)
    numbers = [round(week[day % 7] * (0.7 + day / 60), 3) if day < 21 else 0 for day in range(30)]
    series = [
        {"name": "smollm2-135m-instruct", "numbers": numbers},
        {"name": "qwen3-4b-instruct", "numbers": [round(number * 0.6, 3) for number in numbers]},
        {"name": "bge-small-en-v1.5", "numbers": [round(number * 0.09, 3) for number in numbers]},
    ]
    return {"labels": labels, "series": series, "unit": "$"}


def page(template: str, visit: Visitor | None = None, status: int = 200, **context: object) -> Response:
    """A page under the console's headers; templates of tests/console come before those of the console."""
    now = now_microseconds()
    shown: dict[str, object] = {"now": now, "keys": _keys(now), "chart": _chart(), **context}
    if visit is not None:
        shown["visit"] = visit
    text = _ENVIRONMENT.get_template(template).render(shown)
    return HTMLResponse(text, status, headers={"content-security-policy": POLICY})


def _shows(template: str, visit: Visitor | None = None, **context: object) -> Callable[[Request], Any]:
    async def show(_: Request) -> Response:
        return page(template, visit, **context)

    return show


async def _error(request: Request) -> Response:
    return page("error.html", code=request.path_params["code"])


async def _refused(_: Request) -> Response:
    return page("error.html", code=404, status=404)


async def _posted(request: Request) -> Response:
    form = (await request.body()).decode()
    return RedirectResponse(f"/gallery?{form}", 303)


async def _favicon(_: Request) -> Response:
    return Response(status_code=204)


_VISIT = Visitor()
application = Starlette(
    routes=[
        Route("/gallery", _shows("gallery.html", _VISIT, opened="")),
        Route("/gallery/open", _shows("gallery.html", _VISIT, opened="new")),
        Route("/gallery/kept", _shows("gallery.html", _VISIT, opened="made")),
        Route("/gallery/posted", _posted, methods=["POST"]),
        Route("/keys", _shows("example.html", _VISIT)),
        Route("/keys/none", _shows("example.html", replace(_VISIT, balance=Credits(0, 0, None, 0)), keys=[])),
        Route("/long", _shows("example.html", _WORDY, keys=_long_keys())),
        Route("/viewer", _shows("example.html", _VIEWER)),
        Route("/start", _shows("start.html", base_url="http://localhost:8080", grpc_address="localhost:8081")),
        Route("/plain", _shows("column.html", wrong=True)),
        Route("/error/{code:int}", _error),
        Route("/error-within", _shows("error.html", _VISIT, code=404)),
        Route("/refused", _refused),
        Route("/favicon.ico", _favicon),
        Route("/health/ready", lambda _: JSONResponse({})),
        Mount("/static", serve_static),
    ]
)


class Serving:
    """An ASGI application on a port of this machine, in a thread, until it is left."""

    def __init__(self, application: Any) -> None:
        config = uvicorn.Config(application, port=0, ws="none", lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        end = time.monotonic() + 30
        while not self._server.started and time.monotonic() < end:
            time.sleep(0.005)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)


if __name__ == "__main__":
    uvicorn.run(application, port=8090)
