"""The console as an ASGI application: finds the page, and whether its visitor may open it; refuses forms of other
sites; turns whatever fails into a page."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, assert_never

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route

from leadline.accounts.guard import TooManyAttempts
from leadline.accounts.links import LinkGone
from leadline.administration.instance import Instance
from leadline.console.balance import Balances
from leadline.console.cookies import SESSION
from leadline.console.forms import read_form
from leadline.console.page import Answer, Page, Whom
from leadline.console.pages import (
    access,
    audit,
    billing,
    home,
    keys,
    limits,
    log,
    management_keys,
    members,
    models,
    playground,
    server,
    settings,
    two_factor,
    usage,
)
from leadline.console.static import serve_static
from leadline.console.visit import Guest, SignedIn, Visit
from leadline.errors import (
    ClientGone,
    DeadlineExceeded,
    InvalidRequest,
    LeadlineError,
    NotFound,
    PermissionDenied,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    WrongMethod,
)
from leadline.serving.pipeline import Pipeline
from leadline.web.access import log_request

PAGES: tuple[Page, ...] = (
    *access.PAGES,
    *billing.PAGES,
    *home.PAGES,
    *keys.PAGES,
    *usage.PAGES,
    *log.PAGES,
    *limits.PAGES,
    *models.PAGES,
    *playground.PAGES,
    *members.PAGES,
    *settings.PAGES,
    *two_factor.PAGES,
    *management_keys.PAGES,
    *audit.PAGES,
    *server.PAGES,
)

# CONTRACT, section 8. `style-src` has no exception: meters and bars are drawn as SVG. Scripts make no element of a
# text, but for `fragments` of our own pages in admin.js.
_OWN_FORMS = "form-action 'self'"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob:;"
    f" connect-src 'self'; base-uri 'none'; {_OWN_FORMS}; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types fragments"
)
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_log = logging.getLogger("leadline.console")


class SignInFirst(LeadlineError):
    """This page is for people who are signed in."""


class NoOrganisation(LeadlineError):
    """This page shows an organisation, and its visitor belongs to none."""


class ForeignForm(PermissionDenied):
    """This form was sent from another site, so nothing was done. Open the page here and send it again."""


@dataclass(frozen=True, slots=True)
class _Routed:
    page: Page
    route: Route


class Console:
    """An ASGI application for the paths that it `answers`."""

    def __init__(self, instance: Instance, pipeline: Pipeline, pages: Iterable[Page] = PAGES) -> None:
        self._instance, self._pipeline, self._balances = instance, pipeline, Balances(instance)
        self._pages = [_Routed(page, Route(page.path, _unused, methods=None)) for page in pages]
        self._segments = frozenset(page.path.split("/")[1] for page in pages if page.path != "/") | {"static"}

    def answers(self, path: str, method: str) -> bool:
        """By the first word of a path. `/` itself is a page for those who only look."""
        if path == "/":
            return method in ("GET", "HEAD")
        return path.split("/", 2)[1] in self._segments

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"].startswith("/static/"):
            await serve_static(scope, receive, send)
            return
        began, request = time.monotonic(), Request(scope, receive)
        guest = Guest(request, self._instance, self._pipeline)
        try:
            response = await self._answer(guest)
        except ClientGone:
            return
        except Exception as error:
            response = await self._refuse(guest, error)
        for name, value in (_HEADERS | {"content-security-policy": self._policy}).items():
            response.headers.setdefault(name, value)
        log_request("page", request.method, request.url.path, response.status_code, began)
        await response(scope, receive, send)

    @property
    def _policy(self) -> str:
        """Whoever pays goes on from a form of ours to the payment page."""
        checkout = self._instance.billing.checkout
        return _POLICY if checkout is None else _POLICY.replace(_OWN_FORMS, f"{_OWN_FORMS} {checkout.pages}")

    async def _answer(self, guest: Guest) -> Response:
        request = guest.request
        page, parameters = self._find(request)
        request.scope["path_params"] = parameters
        answer, whom = _asked(page, request)
        guest.page = page.name
        visitor = await self._visitor(guest)
        if whom != "everybody":
            visitor = _admitted(visitor, whom)
        if request.method == "POST":
            if not page.signed:
                _refuse_foreign(request, self._instance.base_url)
            if not page.reads_body:
                form = await read_form(request)
                # Once more: while it was sent, slowly perhaps, rights may have ended.
                visitor = await self._visitor(guest)
                visitor = visitor if whom == "everybody" else _admitted(visitor, whom)
                visitor.form = form
        return await answer(visitor)

    def _find(self, request: Request) -> tuple[Page, dict[str, Any]]:
        scope = {**request.scope, "path": request.scope["path"].rstrip("/") or "/"}
        for routed in self._pages:
            match, found = routed.route.matches(scope)
            if match is not Match.NONE:
                return routed.page, found["path_params"]
        raise NotFound("There is no such page.")

    async def _visitor(self, guest: Guest) -> Guest:
        """A Visit where the visitor is signed in and belongs to an organisation, a SignedIn where he belongs to none,
        else the guest himself."""
        instance = self._instance
        token = guest.cookies.get(SESSION)
        session = instance.sessions.find(token) if token is not None else None
        user = await instance.users.get(session.user_id) if session is not None else None
        if session is None or user is None or user.suspended_at is not None:
            return guest
        organisations = await instance.organisations.of_user(user.id)
        known = (guest.request, instance, self._pipeline, guest.page)
        if not organisations:
            return SignedIn(*known, session=session, user=user)
        chosen = [one for one in organisations if one.organisation_id == session.organisation_id]
        organisation = (chosen or organisations)[0]
        return Visit(
            *known,
            session=session,
            user=user,
            organisation=organisation,
            organisations=organisations,
            balance=await self._balances.of(organisation.organisation_id),
        )

    async def _refuse(self, guest: Guest, error: Exception) -> Response:
        if isinstance(error, SignInFirst):
            asked = guest.path if guest.request.method == "GET" and guest.path != "/" else ""
            return RedirectResponse(f"/login?next={asked}" if asked else "/login", 303)
        if isinstance(error, NoOrganisation):
            return RedirectResponse("/organisation", 303)
        if not isinstance(error, LeadlineError):
            _log.error("a page failed", exc_info=error, extra={"path": guest.path[:200]})
        status, title, text = told(error)
        try:
            visitor = await self._visitor(guest)
            visitor.page = guest.page
        except LeadlineError:
            visitor = guest
        response = visitor.render("error.html", status, title=title, text=text, code=status)
        if isinstance(error, TooManyAttempts) and error.retry_after_seconds is not None:
            response.headers["retry-after"] = str(error.retry_after_seconds)
        if isinstance(error, WrongMethod):
            response.headers["allow"] = error.allowed
        return response


def told(error: Exception) -> tuple[int, str, str]:
    """The status, the title and the text of the page that tells of an error."""
    match error:
        case LinkGone():
            return 410, "This link no longer works", str(error)
        case NotFound():
            return 404, "There is nothing here", "The page was moved, or it never was. Nothing else is wrong."
        case WrongMethod():
            return 405, "This page takes no such request", str(error)
        case TooManyAttempts() | RateLimited():
            return 429, "Too many tries", str(error)
        case PermissionDenied():
            return 403, "You may not do that", str(error)
        case RequestTooLarge():
            return 413, "That is too much", str(error)
        case InvalidRequest():
            return 400, "That did not work", str(error)
        case DeadlineExceeded():
            return 504, "That took too long", str(error)
        case Unavailable():
            return 503, "Not now", str(error)
        case LeadlineError():
            return 400, "That did not work", str(error)
        case _:
            return 500, "Something failed here", "It was logged. Try again; if it fails again, tell your administrator."


def _asked(page: Page, request: Request) -> tuple[Answer, Whom]:
    """What answers the method, and who may use it."""
    if request.method in ("GET", "HEAD") and page.get is not None:
        return page.get, page.whom
    if request.method == "POST" and page.post is not None:
        return page.post, page.who_posts
    allowed = [name for name, answer in (("GET", page.get), ("POST", page.post)) if answer is not None]
    raise WrongMethod(f"This page answers {' and '.join(allowed)}.", ", ".join(allowed))


def _admitted(visitor: Guest, whom: Whom) -> SignedIn:
    """The visitor, where he may open what is for `whom`. What others may see is not there for him."""
    if not isinstance(visitor, SignedIn):
        raise SignInFirst
    if whom == "person":
        return visitor
    if not isinstance(visitor, Visit):
        raise NoOrganisation
    match whom:
        case "everybody" | "member":
            return visitor
        case "admin":
            if not visitor.is_admin:
                raise NotFound
            return visitor
        case "see" | "use" | "keys" | "billing" | "members" | "settings":
            if not visitor.may(whom):
                raise PermissionDenied(f"Your role here is {visitor.organisation.role}, which may not do that.")
            return visitor
        case _:
            assert_never(whom)


def _refuse_foreign(request: Request, base_url: str) -> None:
    """Forms come from our own pages: browsers say so in Sec-Fetch-Site, older ones in Origin."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise ForeignForm
        return
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    scheme, _, named = origin.partition("://")
    if not host or named != host or (base_url.startswith("https://") and scheme != "https"):
        raise ForeignForm


async def _unused(_: Request) -> Response:
    raise AssertionError("routes only find pages")
