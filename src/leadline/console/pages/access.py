"""The ways in: set-up, sign-up, sign-in with or without a second factor, forgotten passwords, invitations; and out.

Whether an e-mail is known here is told to nobody: known or not, the answer and the work are the same.
"""

from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.accounts.links import LIVES, Link, LinkGone
from leadline.accounts.organisations import organisation_name
from leadline.accounts.roles import role_of
from leadline.accounts.sessions import SessionRefused
from leadline.accounts.users import NewUser, User, normal_email
from leadline.administration.commands.accounts import grant_starter, open_organisation
from leadline.administration.invitations import still_invites
from leadline.administration.letters import mail_approval, mail_reset, mail_sign_up
from leadline.administration.sign_ins import remember_sign_in
from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.console.cookies import SESSION, SESSION_SECONDS
from leadline.console.page import Page
from leadline.console.visit import Guest, SignedIn, Visit
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.storage.database import Conflict

# Between the password and the code.
_HALFWAY, _HALFWAY_SECONDS = "halfway", 600
# Between the sign-up and its mail, who is signed up in this browser.
_SIGNING_UP = "signing-up"
_SIGN_IN, _CODE, _MAIL, _FOUND = "sign in", "code", "mail", "organisation"
_WRONG = "This e-mail and password do not belong together."


async def show_set_up(guest: Guest) -> Response:
    """The first administrator, by the link that the server printed. LinkGone once there is somebody."""
    await guest.instance.links.peek("setup", guest.query("token"))
    return guest.render("setup.html", token=guest.query("token"), typed={}, wrong={})


async def set_up(guest: Guest) -> Response:
    instance, form = guest.instance, guest.form
    token = form["token"]
    await instance.links.peek("setup", token)
    typed = {name: form[name] for name in ("name", "email", "email_again", "org")}
    try:
        _refuse_different(form["email"], form["email_again"])
        name = organisation_name(typed["org"])
        person = await NewUser.of(instance.passwords, typed["email"], form.raw("password"), typed["name"])
        actor = Actor(person.id, person.email, guest.address)
        taking = [instance.links.taking("setup", token)]
        organisation = await open_organisation(instance, actor, person, name, only_first=True, also=taking)
    except InvalidRequest as error:
        return guest.render("setup.html", 400, token=token, typed=typed, wrong={error.param: str(error)})
    except Conflict:
        raise LinkGone from None
    await grant_starter(instance, actor, organisation.id)
    return await _enter(guest, person.id, "/keys/new?name=first-key")


async def show_sign_in(guest: Guest) -> Response:
    if isinstance(guest, SignedIn):
        return guest.redirect(_next(guest.query("next")))
    return guest.render("login.html", email="", next=guest.query("next"), wrong={}, open=_open(guest))


async def sign_in(guest: Guest) -> Response:
    instance, form = guest.instance, guest.form
    email, following = form["email"], form["next"]
    instance.guard.attempt(_SIGN_IN, email, guest.address)
    user = await instance.users.check_password(email, form.raw("password"))
    if user is None:
        context = {"email": email, "next": following, "wrong": {"password": _WRONG}, "open": _open(guest)}
        return guest.render("login.html", 401, **context)
    if user.two_factor:
        half = msgspec.json.encode([user.id, following, await instance.users.password_mark(user.id)])
        guest.cookies.keep(_HALFWAY, half, _HALFWAY_SECONDS)
        return guest.redirect("/login/code")
    instance.guard.succeeded(_SIGN_IN, email, guest.address)
    return await _welcome(guest, user, following)


async def show_code(guest: Guest) -> Response:
    if _halfway(guest) is None:
        return guest.redirect("/login")
    return guest.render("code.html", wrong={})


async def check_code(guest: Guest) -> Response:
    """The second factor: a code of the app, or a recovery code."""
    instance, half = guest.instance, _halfway(guest)
    user = None if half is None else await instance.users.get(half[0])
    # A password that was changed meanwhile is asked for again.
    known = half is not None and await instance.users.password_mark(half[0]) == half[2]
    if half is None or user is None or user.suspended_at is not None or not known:
        return guest.redirect("/login")
    instance.guard.attempt(_CODE, user.email, guest.address)
    if not await instance.two_factor.check(user, guest.form["code"]):
        wrong = {"code": "This code is not right, or was used already. Take the next one."}
        return guest.render("code.html", 401, wrong=wrong)
    for purpose in (_SIGN_IN, _CODE):
        instance.guard.succeeded(purpose, user.email, guest.address)
    guest.cookies.forget(_HALFWAY)
    return await _welcome(guest, user, half[1])


async def sign_out(visit: SignedIn) -> Response:
    token, instance = visit.cookies.get(SESSION), visit.instance
    if token is not None:
        row = audited(instance.keys.clock(), visit.actor, "users sign-out", visit.user.id, ({}, {}))
        await instance.sessions.close(token, row)
    visit.cookies.forget(SESSION)
    return visit.redirect("/login", "You are signed out.")


async def show_sign_up(guest: Guest) -> Response:
    if not _open(guest):
        return guest.render("closed.html", 200, invited=guest.instance.config.accounts.sign_up == "invite")
    return guest.render("signup.html", typed={}, wrong={})


async def sign_up(guest: Guest) -> Response:
    """Somebody becomes a user when he comes back by the link in his mail. Somebody who is one already gets a mail that
    says so."""
    if not _open(guest):
        raise NotFound
    instance, form = guest.instance, guest.form
    typed = {name: form[name] for name in ("name", "email", "email_again", "org")}
    instance.guard.attempt(_MAIL, typed["email"], guest.address)
    try:
        _refuse_different(form["email"], form["email_again"])
        name = organisation_name(typed["org"])
        _refuse_domain(guest, typed["email"])
        person = await NewUser.of(instance.passwords, typed["email"], form.raw("password"), typed["name"])
    except InvalidRequest as error:
        return guest.render("signup.html", 400, typed=typed, wrong={error.param: str(error)})
    await mail_sign_up(instance, person, name)
    guest.cookies.keep(_SIGNING_UP, person.id.encode(), LIVES["verify"] // MICROSECONDS_PER_SECOND)
    return guest.render("sent.html", email=person.email, what="finish your sign-up")


async def show_verify(guest: Guest) -> Response:
    link = await guest.instance.links.peek("verify", guest.query("token"))
    asks = _asks_password(guest, link)
    return guest.render("verify.html", token=guest.query("token"), email=link.subject, asks=asks, wrong={})


async def verify(guest: Guest) -> Response:
    """In another browser than that of the sign-up its password is asked for: whoever has the mail may be somebody else,
    and would work under a password that others know."""
    instance, token = guest.instance, guest.form["token"]
    link = await instance.links.peek("verify", token)
    facts = link.facts
    person = NewUser(facts["id"], link.subject, facts["name"], facts["password_hash"])
    actor = Actor(person.id, person.email, guest.address)
    needs_approval = instance.config.accounts.sign_up == "approval"
    if _asks_password(guest, link):
        instance.guard.attempt(_SIGN_IN, person.email, guest.address)
        if not await instance.passwords.matches(guest.form.raw("password"), person.password_hash):
            wrong = {"password": "This is not the password with which this e-mail was signed up."}
            return guest.render("verify.html", 400, token=token, email=person.email, asks=True, wrong=wrong)
        instance.guard.succeeded(_SIGN_IN, person.email, guest.address)
    try:
        taking = [instance.links.taking("verify", token)]
        organisation = await open_organisation(
            instance, actor, person, facts["org"], also=taking, suspended=needs_approval
        )
    except (Conflict, InvalidRequest):
        # The link was used meanwhile, or another one of the same e-mail.
        raise LinkGone from None
    if needs_approval:
        await mail_approval(instance, organisation, actor)
    return await _enter(guest, person.id, "/home")


async def show_forgot(guest: Guest) -> Response:
    return guest.render("forgot.html", email="", wrong={})


async def forgot(guest: Guest) -> Response:
    instance, email = guest.instance, guest.form["email"]
    instance.guard.attempt(_MAIL, email, guest.address)
    await mail_reset(instance, email)
    return guest.render("sent.html", email=normal_email(email)[:320], what="choose a new password")


async def show_reset(guest: Guest) -> Response:
    await guest.instance.links.peek("reset", guest.query("token"))
    return guest.render("reset.html", token=guest.query("token"), wrong={})


async def reset(guest: Guest) -> Response:
    """A new password ends all sessions."""
    instance, token = guest.instance, guest.form["token"]
    link = await instance.links.peek("reset", token)
    user = await instance.users.get(link.subject)
    if user is None:
        raise LinkGone
    try:
        await instance.users.change_password(
            *(user, guest.form.raw("password"), Actor(user.id, user.email, guest.address)),
            also=[instance.links.taking("reset", token)],
        )
    except InvalidRequest as error:
        return guest.render("reset.html", 400, token=token, wrong={error.param: str(error)})
    except Conflict:
        raise LinkGone from None
    return guest.redirect("/login", "Your password was changed. Sign in with the new one.")


async def show_invite(guest: Guest) -> Response:
    link = await guest.instance.links.peek("invite", guest.query("token"))
    return guest.render("invite.html", token=guest.query("token"), typed={}, wrong={}, **await _invited(guest, link))


async def accept(guest: Guest) -> Response:
    """Join an organisation: as a new user, or as the one who is signed in under the invited e-mail."""
    instance, form = guest.instance, guest.form
    token = form["token"]
    link = await instance.links.peek("invite", token)
    invited = await _invited(guest, link)
    typed = {"name": form["name"]}
    if invited["other"]:
        return guest.render("invite.html", 409, token=token, typed=typed, wrong={}, **invited)
    try:
        person: NewUser | User
        if isinstance(guest, SignedIn):
            person = guest.user
        elif invited["known"]:
            return guest.redirect(f"/login?{urlencode({'next': f'/invite?token={token}'})}")
        else:
            if invited["closed"]:
                raise InvalidRequest("This server takes no new users.", "email")
            person = await NewUser.of(instance.passwords, link.subject, form.raw("password"), typed["name"])
        actor = Actor(person.id, person.email, guest.address)
        taking = [instance.links.taking("invite", token)]
        await instance.organisations.join(person, link.organisation_id, role_of(link.facts["role"]), actor, taking)
    except InvalidRequest as error:
        return guest.render("invite.html", 400, token=token, typed=typed, wrong={error.param: str(error)}, **invited)
    except Conflict:
        raise LinkGone from None
    if isinstance(guest, SignedIn):
        await instance.sessions.choose(guest.session, link.organisation_id)
        return guest.redirect("/home", f"You are a member of {invited['organisation']} now.")
    return await _enter(guest, person.id, "/home")


async def show_none(visitor: SignedIn) -> Response:
    """For somebody who left his last organisation, or was removed from it."""
    if isinstance(visitor, Visit):
        return visitor.redirect("/home")
    return visitor.render("no_organisation.html", founds=may_found(visitor))


async def show_new(visitor: SignedIn) -> Response:
    _refuse_founding(visitor)
    return visitor.render("organisation_new.html", typed={}, wrong={})


async def found(visitor: SignedIn) -> Response:
    """A further organisation, whose owner the visitor is."""
    _refuse_founding(visitor)
    instance, form = visitor.instance, visitor.form
    instance.guard.attempt(_FOUND, visitor.user.email, visitor.address)
    try:
        organisation = await open_organisation(instance, visitor.actor, visitor.user, form["org"])
    except InvalidRequest as error:
        context = {"typed": {"org": form["org"]}, "wrong": {error.param: str(error)}}
        return visitor.render("organisation_new.html", 400, **context)
    await instance.sessions.choose(visitor.session, organisation.id)
    return visitor.redirect("/home", f"{organisation.name} is there, and you are its owner.")


def may_found(visitor: SignedIn) -> bool:
    """Whether the visitor may open further organisations."""
    return visitor.is_admin or visitor.instance.config.accounts.sign_up == "open"


async def choose_organisation(visit: Visit) -> Response:
    """Look at another one of the visitor's organisations."""
    chosen = visit.form["organisation_id"]
    if all(one.organisation_id != chosen for one in visit.organisations):
        raise NotFound
    await visit.instance.sessions.choose(visit.session, chosen)
    return visit.redirect("/home")


PAGES = (
    Page("/setup", "", "everybody", show_set_up, set_up),
    Page("/login", "", "everybody", show_sign_in, sign_in),
    Page("/login/code", "", "everybody", show_code, check_code),
    Page("/logout", "", "person", post=sign_out),
    Page("/signup", "", "everybody", show_sign_up, sign_up),
    Page("/verify", "", "everybody", show_verify, verify),
    Page("/forgot", "", "everybody", show_forgot, forgot),
    Page("/reset", "", "everybody", show_reset, reset),
    Page("/invite", "", "everybody", show_invite, accept),
    Page("/organisation", "", "person", show_none, choose_organisation, "member"),
    Page("/organisation/new", "settings", "person", show_new, found),
)


async def _welcome(guest: Guest, user: User, following: str) -> Response:
    actor = Actor(user.id, user.email, guest.address)
    await remember_sign_in(guest.instance, user, actor, guest.agent)
    return await _enter(guest, user.id, _next(following))


async def _enter(guest: Guest, user_id: str, path: str) -> Response:
    """Sign in, and go on to a path."""
    try:
        token = await guest.instance.sessions.open(user_id, guest.address, guest.agent)
    except SessionRefused:
        return guest.redirect("/login", "This account is suspended.", "warn")
    if (before := guest.cookies.get(SESSION)) is not None:
        # The browser forgets it now, and nobody else is to have it.
        await guest.instance.sessions.close(before)
    guest.cookies.set(SESSION, token, SESSION_SECONDS)
    return guest.redirect(path)


def _halfway(guest: Guest) -> tuple[str, str, str] | None:
    """Who gave his password and not yet his code, where he wants to go, and the mark of the password."""
    kept = guest.cookies.open(_HALFWAY)
    return None if kept is None else msgspec.json.decode(kept, type=tuple[str, str, str])


def _asks_password(guest: Guest, link: Link) -> bool:
    return guest.cookies.open(_SIGNING_UP) != str(link.facts["id"]).encode()


async def _invited(guest: Guest, link: Link) -> dict[str, Any]:
    """What an invitation says: for which `email`, to which `organisation`, in which `role`; whether its e-mail is
    `known` here, or this server is `closed` for it, and whether the visitor `joins` since he is signed in under it."""
    organisation = await guest.instance.organisations.get(link.organisation_id)
    if organisation is None or not await still_invites(guest.instance, link):
        raise LinkGone
    signed_in = guest.user.email if isinstance(guest, SignedIn) else ""
    known = await guest.instance.users.find(link.subject) is not None
    return {
        "email": link.subject,
        "organisation": organisation.name,
        "role": link.facts["role"],
        "known": known,
        "closed": not known and guest.instance.config.accounts.sign_up == "off",
        "joins": signed_in == link.subject,
        "other": signed_in if signed_in != link.subject else "",
    }


def _refuse_founding(visitor: SignedIn) -> None:
    if not may_found(visitor):
        raise PermissionDenied("Only administrators of this server open further organisations. Ask one.")


def _open(guest: Guest) -> bool:
    """Whether anybody may sign up, be it that he waits for an administrator then."""
    return guest.instance.config.accounts.sign_up in ("open", "approval")


def _next(path: str) -> str:
    """A path of this console, whatever the URL asks for."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if inside and len(path) <= 500 else "/home"


def _refuse_different(email: str, again: str) -> None:
    if normal_email(email) != normal_email(again):
        raise InvalidRequest("The two e-mails differ. It cannot be changed later, so type it twice.", "email_again")


def _refuse_domain(guest: Guest, email: str) -> None:
    domains = guest.instance.config.accounts.email_domains
    if domains and normal_email(email).rpartition("@")[2] not in domains:
        raise InvalidRequest(f"Sign up with an e-mail of {' or '.join(domains)}.", "email")
