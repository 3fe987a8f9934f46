"""What a key may use."""

from leadline.accounts.api_key import NONE, ApiKey
from leadline.errors import PermissionDenied


def refuse_endpoint(caller: ApiKey, scope: str) -> None:
    """PermissionDenied where the key's endpoints leave this one out."""
    if caller.endpoints == NONE:
        raise PermissionDenied(f"The API key “{caller.name}” may not use any endpoint. Use another key, or change it.")
    if caller.endpoints and scope not in caller.endpoints:
        raise PermissionDenied(
            f"The API key “{caller.name}” may not use {scope} endpoints, only: {', '.join(sorted(caller.endpoints))}. "
            "Use another key, or change this one."
        )
