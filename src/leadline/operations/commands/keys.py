"""API keys."""

from leadline.accounts.keys import ApiKey
from leadline.clock import rfc3339
from leadline.errors import InvalidRequest, PermissionDenied
from leadline.operations.commands.command import Command, Result
from leadline.operations.instance import Instance


async def create_key(instance: Instance, name: str, email: str | None) -> Result:
    user = await instance.organisations.user(email)
    key, text = await instance.keys.create(user.organisation_id, key_name(name))
    return _key(key) | {"api_key": text}


async def list_keys(instance: Instance, email: str | None) -> Result:
    user = await instance.organisations.user(email)
    return {"keys": [_key(key) for key in instance.keys.of(user.organisation_id)]}


async def disable_key(instance: Instance, key: str, email: str | None) -> Result:
    return _key(await instance.keys.disable(await _find(instance, key, email)))


async def enable_key(instance: Instance, key: str, email: str | None) -> Result:
    found = await _find(instance, key, email)
    if found.revoked_at is not None:
        raise PermissionDenied(f"{found.name} was revoked, for good. Create a new key.")
    return _key(await instance.keys.enable(found))


async def revoke_key(instance: Instance, key: str, email: str | None) -> Result:
    return _key(await instance.keys.revoke(await _find(instance, key, email)))


COMMANDS: dict[str, Command] = {
    "keys create": create_key,
    "keys list": list_keys,
    "keys disable": disable_key,
    "keys enable": enable_key,
    "keys revoke": revoke_key,
}


def key_name(name: str) -> str:
    """A key's name without the space around it, or InvalidRequest."""
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidRequest("A key's name must have 1 to 100 printable characters.", "name")
    return name


async def _find(instance: Instance, key: str, email: str | None) -> ApiKey:
    user = await instance.organisations.user(email)
    return instance.keys.find(user.organisation_id, key)


def _key(key: ApiKey) -> Result:
    return {
        "id": key.id,
        "name": key.name,
        "redacted": key.redacted,
        "state": key.state,
        "created_at": rfc3339(key.created_at),
    }
