"""xAI's tokenizer endpoint."""

from typing import Annotated

import msgspec
from msgspec import Meta

from leadline.dialects.bounds import LONGEST_MODEL
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import Exchange
from leadline.web.strict_json import decode


class Body(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1, max_length=LONGEST_MODEL)]
    text: str
    user: str | None = None


async def tokenize_text(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    body = decode(await exchange.json_body(), Body)
    async with exchange.while_connected():
        tokens = await pipeline.tokenize(caller, body.model, body.text)
    await exchange.respond_json(
        {
            "token_ids": [
                {
                    "token_id": token.token_id,
                    "string_token": token.token_bytes.decode("utf-8", "replace"),
                    "token_bytes": list(token.token_bytes),
                }
                for token in tokens
            ]
        }
    )
