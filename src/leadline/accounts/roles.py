"""What members of an organisation may do there."""

from collections.abc import Mapping
from typing import Literal, get_args

from leadline.errors import InvalidRequest

Role = Literal["owner", "admin", "developer", "billing", "viewer"]
# To see pages, to use the playground, and to change keys, credits, members and settings.
Permission = Literal["see", "use", "keys", "billing", "members", "settings"]

ROLES: tuple[Role, ...] = get_args(Role)
_ALL: frozenset[Permission] = frozenset(get_args(Permission))

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    "owner": _ALL,
    # As an owner, but nobody's role becomes owner or stops being it through him.
    "admin": _ALL,
    "developer": frozenset({"see", "use", "keys"}),
    "billing": frozenset({"see", "billing"}),
    "viewer": frozenset({"see"}),
}


def role_of(text: str) -> Role:
    """The role of this name, or InvalidRequest."""
    for role in ROLES:
        if role == text:
            return role
    raise InvalidRequest(f"There is no role {text[:50]!r}. Choose one of {', '.join(ROLES)}.", "role")
