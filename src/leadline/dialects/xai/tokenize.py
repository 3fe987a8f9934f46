"""The service `xai_api.Tokenize`."""

from typing import Any

from leadline.dialects.xai.fields import model_of
from leadline.dialects.xai.protos import tokenize
from leadline.dialects.xai.rpc import Rpc


async def tokenize_text(rpc: Rpc, wire: Any) -> Any:
    name = rpc.pipeline.catalog.find(model_of(wire)).name
    tokens = await rpc.pipeline.tokenize(rpc.caller, name, wire.text)
    return tokenize.TokenizeTextResponse(
        model=name,
        tokens=[
            tokenize.Token(
                token_id=token.token_id,
                string_token=token.token_bytes.decode("utf-8", "replace"),
                token_bytes=token.token_bytes,
            )
            for token in tokens
        ],
    )


HANDLERS = {"/xai_api.Tokenize/TokenizeText": tokenize_text}
