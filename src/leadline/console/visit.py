"""Who visits a page: a guest, somebody who is signed in, and nearly always he looks at one of his organisations."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from leadline.accounts.actor import Actor
from leadline.accounts.organisations import Membership
from leadline.accounts.roles import PERMISSIONS, Permission
from leadline.accounts.sessions import Session
from leadline.accounts.users import User
from leadline.administration.instance import Instance
from leadline.console.balance import Balance
from leadline.console.cookies import SESSION, Cookies
from leadline.console.forms import EMPTY, Form
from leadline.console.render import render
from leadline.console.snippets import Host
from leadline.errors import PermissionDenied
from leadline.serving.pipeline import Pipeline

NOTICE = "notice"
_LONGEST_NOTICE = 500


@dataclass(frozen=True, slots=True)
class Offer:
    """A model's name, whether it can answer now, and why not or how."""

    name: str
    ready: bool
    detail: str


@dataclass(slots=True)
class Guest:
    """Somebody of whom nothing is known. `page` is the page's place in the navigation."""

    request: Request
    instance: Instance
    pipeline: Pipeline
    page: str = ""
    form: Form = EMPTY
    cookies: Cookies = field(init=False)

    def __post_init__(self) -> None:
        secure = self.base_url.startswith("https://")
        self.cookies = Cookies(self.request, self.instance.sealer, secure, self.instance.keys.clock)

    @property
    def base_url(self) -> str:
        return self.instance.base_url

    @property
    def path(self) -> str:
        return self.request.url.path

    @property
    def address(self) -> str:
        """Where the visitor comes from, as the HTTP server knows it."""
        client = self.request.client
        try:
            return str(ipaddress.ip_address(client.host)) if client is not None else ""
        except ValueError:
            return ""

    @property
    def agent(self) -> str:
        return self.request.headers.get("user-agent", "")[:200]

    @property
    def notices(self) -> list[tuple[str, str]]:
        """What the page before wanted to be told here: pairs of kind (`good`, `warn`) and text. Read once."""
        kept = self.cookies.open(NOTICE)
        self.cookies.forget(NOTICE)
        return [] if kept is None else msgspec.json.decode(kept, type=list[tuple[str, str]])

    def query(self, name: str) -> str:
        """A parameter of the URL; empty where there is none."""
        return self.request.query_params.get(name, "").strip()

    def render(self, template: str, status: int = 200, **context: Any) -> Response:
        """The page made of a template, in which `visit` is this."""
        response = HTMLResponse(render(template, visit=self, **context), status)
        self.cookies.write(response)
        return response

    def redirect(self, path: str, said: str = "", kind: str = "good") -> Response:
        """Go on to another page after a form was taken, which says so there."""
        if said:
            self.cookies.keep(NOTICE, msgspec.json.encode([(kind, said[:_LONGEST_NOTICE])]))
        response = RedirectResponse(path, 303)
        self.cookies.write(response)
        return response


@dataclass(slots=True)
class SignedIn(Guest):
    """Somebody who is signed in, and may have left his last organisation."""

    session: Session = field(kw_only=True)
    user: User = field(kw_only=True)

    @property
    def is_admin(self) -> bool:
        return self.user.is_admin

    @property
    def actor(self) -> Actor:
        return Actor(self.user.id, self.user.email, self.address)


@dataclass(slots=True)
class Visit(SignedIn):
    """Somebody who is signed in. `organisation` is the one that he looks at, of all his `organisations`."""

    organisation: Membership = field(kw_only=True)
    organisations: list[Membership] = field(kw_only=True)
    balance: Balance = field(kw_only=True)

    @property
    def organisation_id(self) -> str:
        return self.organisation.organisation_id

    @property
    def host(self) -> Host:
        """Where programs reach this server."""
        tls = self.instance.config.grpc.tls_certificate is not None
        return Host(self.base_url, self.instance.grpc_address or "", tls)

    @property
    def models(self) -> list["Offer"]:
        """The models on offer, with what their engines do now."""
        models = self.pipeline.catalog.models
        return [Offer(one.name, one.engine.status.ready, one.engine.status.detail) for one in models]

    @property
    def model(self) -> str:
        """The one that examples ask: the first that chats."""
        models = self.pipeline.catalog.models
        chatting = [model.name for model in models if "chat" in model.capabilities]
        return (chatting or [model.name for model in models] or ["model"])[0]

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.organisation.role]

    async def refuse_if_gone(self, permission: Permission) -> None:
        """PermissionDenied where the session, the membership or the role ended since the visitor was looked up: whoever
        sends slowly does nothing any more by rights that he had."""
        session = self.instance.sessions.find(self.cookies.get(SESSION) or "")
        roles = {one.organisation_id: one.role for one in await self.instance.organisations.of_user(self.user.id)}
        role = roles.get(self.organisation_id)
        if session is None or role is None or permission not in PERMISSIONS[role]:
            raise PermissionDenied("You may not do that here any more.")
