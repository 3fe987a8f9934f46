"""Who belongs to the organisation, in which role, and who is invited."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from leadline.accounts.links import Link
from leadline.accounts.organisations import Member, NotMember
from leadline.accounts.roles import ROLES, Role, role_of
from leadline.administration.invitations import invite, renew, withdraw
from leadline.console.page import Page
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest

ROLE_MEANS: dict[Role, str] = {
    "owner": "Everything, and makes owners",
    "admin": "Everything, but does not touch owners",
    "developer": "Playground and API keys; sees all pages",
    "billing": "Credits and receipts; sees all pages",
    "viewer": "Sees all pages, changes nothing",
}
# The link of a new invitation waits so long for its page.
_LINK, _LINK_SECONDS = "invitation", 300


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member as the list shows him."""

    member: Member
    last_seen_at: int | None
    is_visitor: bool

    @property
    def title(self) -> str:
        return self.member.user.name or self.member.user.email


async def list_members(visit: Visit) -> Response:
    return await _list(visit)


async def show_invite(visit: Visit) -> Response:
    """The list, with the form for an invitation open."""
    return await _list(visit, typed={}, wrong={})


async def send_invite(visit: Visit) -> Response:
    """The invitation's link is shown on a page of its own, once."""
    form, instance = visit.form, visit.instance
    try:
        url = await invite(instance, visit.actor, visit.organisation, form["email"], role_of(form["role"]))
    except InvalidRequest as error:
        typed = {"email": form["email"], "role": form["role"]}
        return await _list(visit, typed=typed, wrong={error.param or "email": str(error)}, status=400)
    return _show_once(visit, form["email"].lower(), url)


async def renew_invitation(visit: Visit) -> Response:
    instance, link_id = visit.instance, visit.request.path_params["link"]
    email, url = await renew(instance, visit.actor, visit.organisation, link_id)
    return _show_once(visit, email, url)


async def withdraw_invitation(visit: Visit) -> Response:
    link_id = visit.request.path_params["link"]
    email = await withdraw(visit.instance, visit.actor, visit.organisation, link_id)
    return visit.redirect("/members", f"The invitation of {email} is withdrawn: its link works no more.")


async def show_invited(visit: Visit) -> Response:
    """Once: the link is gone from the cookie with this answer."""
    kept = visit.cookies.open(_LINK)
    visit.cookies.forget(_LINK)
    if kept is None:
        return visit.redirect("/members")
    organisation_id, email, url = msgspec.json.decode(kept, type=tuple[str, str, str])
    if organisation_id != visit.organisation_id:
        return visit.redirect("/members")
    return visit.render("member_invited.html", email=email, url=url, mailed=visit.instance.outbox.sends)


async def show_member(visit: Visit) -> Response:
    return await _one(visit, await _found(visit))


async def change_role(visit: Visit) -> Response:
    member, organisations = await _found(visit), visit.instance.organisations
    try:
        role = role_of(visit.form["role"])
        await organisations.change_role(
            *(visit.organisation_id, member.user.id, role, visit.actor), acting=visit.organisation.role
        )
    except InvalidRequest as error:
        return await _one(visit, member, wrong={"role": str(error)})
    return visit.redirect("/members", f"{member.user.email} is {role} now, from the next page on.")


async def remove(visit: Visit) -> Response:
    member, organisations = await _found(visit), visit.instance.organisations
    try:
        await organisations.remove_member(
            visit.organisation_id, member.user.id, visit.actor, acting=visit.organisation.role
        )
    except InvalidRequest as error:
        return await _one(visit, member, wrong={"remove": str(error)})
    return visit.redirect(
        "/members", f"{member.user.email} is no member of {visit.organisation.organisation} any more."
    )


async def leave(visit: Visit) -> Response:
    """Whoever may change nothing here may still go."""
    try:
        await visit.instance.organisations.remove_member(visit.organisation_id, visit.user.id, visit.actor)
    except InvalidRequest:
        return visit.redirect(
            "/members", "You are the last owner. Make somebody else an owner before you leave.", "bad"
        )
    # Where it was his only organisation, the start leads to the page that says what now.
    return visit.redirect("/home", f"You left {visit.organisation.organisation}.")


PAGES = (
    Page("/members", "members", "see", list_members, send_invite, "members"),
    Page("/members/invite", "members", "members", show_invite),
    Page("/members/invited", "members", "members", show_invited),
    Page("/members/leave", "members", "member", post=leave),
    Page("/members/invitations/{link}/renew", "members", "members", post=renew_invitation),
    Page("/members/invitations/{link}/withdraw", "members", "members", post=withdraw_invitation),
    Page("/members/{user}", "members", "members", show_member, change_role),
    Page("/members/{user}/remove", "members", "members", post=remove),
)


async def _list(
    visit: Visit, typed: dict[str, str] | None = None, wrong: dict[str, str] | None = None, status: int = 200
) -> Response:
    instance = visit.instance
    members = await instance.organisations.members(visit.organisation_id)
    waiting: list[Link] = []
    if visit.may("members"):
        waiting = await instance.links.waiting("invite", visit.organisation_id)
    return visit.render(
        "members.html",
        status,
        rows=[_row(visit, member) for member in members],
        waiting=waiting,
        now=instance.keys.clock(),
        owners=sum(member.role == "owner" for member in members),
        open=typed is not None,
        typed={"email": "", "role": "developer"} | (typed or {}),
        wrong=wrong or {},
        roles=_roles(visit),
        sign_up=instance.config.accounts.sign_up,
    )


async def _one(visit: Visit, member: Member, wrong: dict[str, str] | None = None) -> Response:
    members = await visit.instance.organisations.members(visit.organisation_id)
    owners = sum(one.role == "owner" for one in members)
    context: dict[str, Any] = {
        "row": _row(visit, member),
        "member": member,
        "last_owner": member.role == "owner" and owners == 1,
        "may_change": member.role != "owner" or visit.organisation.role == "owner",
        "wrong": wrong or {},
        "role": visit.form["role"] or member.role,
        "roles": _roles(visit),
        "audit": f"/audit?actor={quote(member.user.id)}",
    }
    return visit.render("member.html", 400 if wrong else 200, **context)


def _row(visit: Visit, member: Member) -> MemberRow:
    sessions = visit.instance.sessions.of_user(member.user.id)
    seen = [session.last_seen_at for session in sessions] + [member.user.last_signed_in_at or 0]
    return MemberRow(member, max(seen) or None, member.user.id == visit.user.id)


def _roles(visit: Visit) -> list[tuple[Role, str]]:
    """Those that the visitor gives, with what each may do."""
    return [(role, ROLE_MEANS[role]) for role in ROLES if role != "owner" or visit.organisation.role == "owner"]


async def _found(visit: Visit) -> Member:
    """The member whom the path names, or NotFound."""
    user_id = visit.request.path_params["user"]
    for member in await visit.instance.organisations.members(visit.organisation_id):
        if member.user.id == user_id:
            return member
    raise NotMember


def _show_once(visit: Visit, email: str, url: str) -> Response:
    kept = msgspec.json.encode([visit.organisation_id, email, url])
    visit.cookies.keep(_LINK, kept, _LINK_SECONDS)
    return visit.redirect("/members/invited")
