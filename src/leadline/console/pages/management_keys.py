"""Management keys: what opens the management API for the organisation's own programs."""

from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.responses import Response

from leadline.accounts.api_key import State
from leadline.accounts.management_keys import ACL_PREFIX, EVERYTHING, ManagementKey
from leadline.administration.commands.management_keys import create_management_key, enable_management_key
from leadline.console.page import Page
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound

PATH = "/settings/management-keys"
# What the management API does, for people: by the names of its ACLs.
OPERATION_GROUPS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "API keys",
        (
            ("ListApiKeys", "List"),
            ("CreateApiKey", "Create"),
            ("UpdateApiKey", "Change"),
            ("RotateApiKey", "Rotate"),
            ("DeleteApiKey", "Revoke"),
            ("CheckApiKeyPropagation", "Check whether a change holds"),
        ),
    ),
    ("Models and endpoints", (("ListModels", "List models"), ("ListEndpoints", "List endpoints"))),
    (
        "Billing",
        (
            ("GetBillingInfo", "Read the address"),
            ("SetBillingInfo", "Change the address"),
            ("ListInvoices", "List invoices"),
            ("ListPaymentMethods", "List payment methods"),
            ("SetDefaultPaymentMethod", "Choose the payment method"),
            ("GetAmountToPay", "Read the amount to pay"),
            ("GetSpendingLimits", "Read spending limits"),
            ("SetSoftSpendingLimit", "Change the soft limit"),
            ("ListPrepaidBalanceChanges", "Read the balance"),
            ("TopUpOrGetExistingPendingChange", "Add credits"),
        ),
    ),
    ("Usage and audit", (("AnalyzeBillingItems", "Read usage"), ("ListAuditEvents", "Read the audit log"))),
)
_EXPIRIES = (("30d", "In 30 days"), ("90d", "In 90 days"), ("365d", "In a year"), ("", "Never"))
_NOTHING_TYPED = {"name": "", "acls": [], "ip_ranges": "", "expires": "90d"}
# A new secret waits so long for its page.
_SECRET, _SECRET_SECONDS = "management-secret", 300
_NAMES = {ACL_PREFIX + name: f"{group}: {label}" for group, names in OPERATION_GROUPS for name, label in names}


@dataclass(frozen=True, slots=True)
class ManagementKeyRow:
    """A management key as the list shows it."""

    key: ManagementKey
    state: State
    owner: str
    last_used_at: int | None

    @property
    def permissions(self) -> list[str]:
        """What it may do, in the order of the form; nothing: everything."""
        return [] if EVERYTHING in self.key.acls else [name for acl, name in _NAMES.items() if acl in self.key.acls]


async def list_keys(visit: Visit) -> Response:
    return await _list(visit)


async def show_new(visit: Visit) -> Response:
    """The list, with the form for a new key open."""
    return await _list(visit, typed={})


async def create(visit: Visit) -> Response:
    """The new key's secret is shown on a page of its own, once."""
    form = visit.form
    acls = [acl for acl in form.all("acls") if acl]
    ranges = form["ip_ranges"].replace(",", " ").split()
    try:
        if not acls:
            raise InvalidRequest("Tick what this key may do. Without a tick it could do nothing.", "acls")
        made = await create_management_key(
            *(visit.instance, visit.actor, form["name"], visit.organisation_id),
            *(acls, ranges, form["expires"] or None),
        )
    except InvalidRequest as error:
        typed = {"name": form["name"], "acls": acls, "ip_ranges": form["ip_ranges"], "expires": form["expires"]}
        return await _list(visit, typed=typed, wrong={error.param or "name": str(error)})
    visit.cookies.keep(_SECRET, msgspec.json.encode([made["id"], made["management_key"]]), _SECRET_SECONDS)
    return visit.redirect(f"{PATH}/{made['id']}/secret")


async def show_secret(visit: Visit) -> Response:
    """Once: the secret is gone from the cookie with this answer."""
    key, kept = _found(visit), visit.cookies.open(_SECRET)
    visit.cookies.forget(_SECRET)
    key_id, text = ("", "") if kept is None else msgspec.json.decode(kept, type=tuple[str, str])
    if key_id != key.id:
        return visit.redirect(PATH)
    return visit.render("management_key_secret.html", key=key, text=text)


async def disable(visit: Visit) -> Response:
    key = _found(visit)
    await visit.instance.management_keys.disable(key, visit.actor)
    return visit.redirect(PATH, f"{key.name} is disabled: its calls are refused.")


async def enable(visit: Visit) -> Response:
    key = _found(visit)
    await enable_management_key(visit.instance, visit.actor, key.id, visit.organisation_id)
    return visit.redirect(PATH, f"{key.name} works again.")


async def revoke(visit: Visit) -> Response:
    key = _found(visit)
    await visit.instance.management_keys.revoke(key, visit.actor)
    return visit.redirect(PATH, f"{key.name} is revoked, for good.")


PAGES = (
    Page(PATH, "settings", "see", list_keys, create, "settings"),
    Page(f"{PATH}/new", "settings", "settings", show_new),
    Page(f"{PATH}/{{key}}/secret", "settings", "settings", show_secret),
    Page(f"{PATH}/{{key}}/disable", "settings", "settings", post=disable),
    Page(f"{PATH}/{{key}}/enable", "settings", "settings", post=enable),
    Page(f"{PATH}/{{key}}/revoke", "settings", "settings", post=revoke),
)


async def _list(visit: Visit, typed: dict[str, Any] | None = None, wrong: dict[str, str] | None = None) -> Response:
    instance = visit.instance
    members = await instance.organisations.members(visit.organisation_id)
    emails = {member.user.id: member.user.email for member in members}
    rows = []
    for key in reversed(instance.management_keys.of(visit.organisation_id)):
        state = key.state(instance.management_keys.clock())
        owner = emails.get(key.owner_id, "somebody who left")
        rows.append(ManagementKeyRow(key, state, owner, instance.management_keys.last_used_at(key.id)))
    return visit.render(
        "management_keys.html",
        400 if wrong else 200,
        rows=[row for row in rows if row.state != "revoked"] + [row for row in rows if row.state == "revoked"],
        open=typed is not None,
        typed=_NOTHING_TYPED | (typed or {}),
        wrong=wrong or {},
        everything=EVERYTHING,
        groups=[
            (name, [(ACL_PREFIX + acl, label) for acl, label in operations]) for name, operations in OPERATION_GROUPS
        ],
        expiries=_EXPIRIES,
    )


def _found(visit: Visit) -> ManagementKey:
    """The organisation's key that the path names, or NotFound."""
    for key in visit.instance.management_keys.of(visit.organisation_id):
        if key.id == visit.request.path_params["key"]:
            return key
    raise NotFound("There is no such key.")
