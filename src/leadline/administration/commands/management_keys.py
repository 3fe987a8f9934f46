"""Management keys: what opens the management API. The page, the command line and scripts change them here."""

from collections.abc import Sequence

from leadline.accounts.actor import Actor
from leadline.accounts.management_keys import ACL_PREFIX, EVERYTHING, ManagementKey, ManagementKeyOptions
from leadline.accounts.roles import PERMISSIONS
from leadline.administration.commands import dates
from leadline.administration.commands.command import Command, Result
from leadline.administration.commands.keys import key_name
from leadline.administration.instance import Instance
from leadline.clock import rfc3339
from leadline.errors import PermissionDenied


async def create_management_key(
    instance: Instance,
    actor: Actor,
    name: str,
    email: str | None,
    acls: Sequence[str] = (EVERYTHING,),
    ip_ranges: Sequence[str] = (),
    expires: str | None = None,
) -> Result:
    """`acls` are names of operations such as ListApiKeys, `*`, or either as the API writes it; none: it may do nothing.
    It belongs to who makes it, else to the user of this e-mail, else to the organisation's first member."""
    organisation = await instance.organisations.of_email(email)
    options = ManagementKeyOptions(
        key_name(name),
        frozenset(acl if ":" in acl else ACL_PREFIX + acl for acl in acls),
        tuple(one.strip() for one in ip_ranges),
        None if expires is None else dates.expiry(expires, instance.management_keys.clock()),
    )
    owner_id = await _owner(instance, actor, organisation.id, email)
    key, text = await instance.management_keys.create(organisation.id, owner_id, options, actor)
    return _key(instance, key) | {"management_key": text}


async def list_management_keys(instance: Instance, email: str | None) -> Result:
    organisation = await instance.organisations.of_email(email)
    return {"management_keys": [_key(instance, key) for key in instance.management_keys.of(organisation.id)]}


async def disable_management_key(instance: Instance, actor: Actor, key: str, email: str | None) -> Result:
    found = await _find(instance, key, email)
    return _key(instance, await instance.management_keys.disable(found, actor))


async def enable_management_key(instance: Instance, actor: Actor, key: str, email: str | None) -> Result:
    found = await _find(instance, key, email)
    if found.revoked_at is not None:
        raise PermissionDenied(f"{found.name} was revoked, for good. Create a new key.")
    return _key(instance, await instance.management_keys.enable(found, actor))


async def revoke_management_key(instance: Instance, actor: Actor, key: str, email: str | None) -> Result:
    found = await _find(instance, key, email)
    return _key(instance, await instance.management_keys.revoke(found, actor))


READS: dict[str, Command] = {"management-keys list": list_management_keys}
CHANGES: dict[str, Command] = {
    "management-keys create": create_management_key,
    "management-keys disable": disable_management_key,
    "management-keys enable": enable_management_key,
    "management-keys revoke": revoke_management_key,
}


async def _find(instance: Instance, key: str, email: str | None) -> ManagementKey:
    organisation = await instance.organisations.of_email(email)
    return instance.management_keys.find(organisation.id, key)


async def _owner(instance: Instance, actor: Actor, organisation_id: str, email: str | None) -> str:
    """Whose it is: only who may change the organisation's settings can have one."""
    members = await instance.organisations.members(organisation_id)
    wanted = actor.user_id or (email or "").strip().lower()
    chosen = [member for member in members if wanted in (member.user.id, member.user.email)]
    if actor.user_id and not chosen:
        raise PermissionDenied("Only a member of the organisation can have a management key of it.")
    able = [member for member in chosen or members if "settings" in PERMISSIONS[member.role]]
    if not able:
        raise PermissionDenied("Only an owner or an admin of the organisation can have a management key of it.")
    return able[0].user.id


def _key(instance: Instance, key: ManagementKey) -> Result:
    used = instance.management_keys.last_used_at(key.id)
    return {
        "id": key.id,
        "name": key.name,
        "redacted": key.redacted,
        "state": key.state(instance.management_keys.clock()),
        "owner_user_id": key.owner_id,
        "acls": sorted(key.acls),
        "ip_ranges": list(key.ip_ranges),
        "created_at": rfc3339(key.created_at),
        "expires_at": rfc3339(key.expires_at) if key.expires_at is not None else None,
        "last_used_at": rfc3339(used) if used is not None else None,
    }
