"""The service `xai_api.Auth`: a key asks about itself. It is answered also where the key may do nothing now."""

from typing import Any

from leadline.dialects.xai.protos import auth
from leadline.dialects.xai.rpc import Rpc


async def get_api_key_info(rpc: Rpc, _: Any) -> Any:
    card = await rpc.pipeline.describe_key(rpc.api_key())
    key = card.key
    info = auth.ApiKey(
        redacted_api_key=key.redacted,
        user_id=card.user_id,
        name=key.name,
        modified_by=card.user_id,
        team_id=key.organisation_id,
        acls=card.acls,
        api_key_id=key.id,
        api_key_blocked=card.expired,
        team_blocked=card.suspended,
        disabled=card.disabled,
    )
    info.create_time.FromMicroseconds(key.created_at)
    info.modify_time.FromMicroseconds(key.modified_at)
    return info


HANDLERS = {"/xai_api.Auth/get_api_key_info": get_api_key_info}
FOR_ANY_KEY = frozenset(HANDLERS)
