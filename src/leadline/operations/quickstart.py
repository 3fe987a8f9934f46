"""`serve --quickstart`: on a new instance, a first organisation, a key, and one real question to the real model."""

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec

from leadline.accounts.actor import COMMAND_LINE
from leadline.administration.commands.accounts import FIRST_KEY_NAME, init
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog
from leadline.engines.upstream.http import Address, HttpClient
from leadline.errors import EngineFailed

EMAIL = "owner@localhost"
QUESTION = "What is the capital of France? Answer in one sentence."
_ANSWER_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Quickstart:
    """What a first run made and heard. The key and the password are shown once and kept nowhere."""

    email: str
    password: str
    api_key: str
    base_url: str
    model: str
    question: str
    answer: str
    usage: dict[str, Any]

    @classmethod
    async def run(cls, instance: Instance, catalog: Catalog, port: int) -> "Quickstart | None":
        """None on an instance that has an organisation already."""
        password = secrets.token_urlsafe(12)
        first = {"credit": None, "key": FIRST_KEY_NAME}
        made = await init(instance, COMMAND_LINE, EMAIL, "My organisation", password, first)
        if "api_key" not in made:
            return None
        chat = [model for model in catalog.models if "chat" in model.capabilities]
        model = (chat or catalog.models)[0].name
        completion = await _ask(port, made["api_key"], model)
        return cls(
            email=EMAIL,
            password=password,
            api_key=made["api_key"],
            base_url=instance.base_url,
            model=model,
            question=QUESTION,
            answer=completion["choices"][0]["message"]["content"].strip(),
            usage=completion["usage"],
        )


async def _ask(port: int, api_key: str, model: str) -> dict[str, Any]:
    """The way that every client takes: over HTTP, with the key, for money."""
    client = HttpClient("leadline", Address("127.0.0.1", port), {"Authorization": f"Bearer {api_key}"})
    question = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
    response = await client.send("POST", "/v1/chat/completions", msgspec.json.encode(question), _ANSWER_SECONDS)
    try:
        answer: dict[str, Any] = msgspec.json.decode(await response.read(_ANSWER_SECONDS))
    finally:
        response.close()
        client.close()
    if response.status != 200:
        raise EngineFailed(str(answer.get("error", {}).get("message", f"status {response.status}")))
    return answer
