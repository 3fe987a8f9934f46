"""The prompts of a request for vectors, as llama.cpp takes them: as tokens, and no more of them at once than one batch
holds."""

from collections.abc import Iterator, Sequence

from leadline.engines.upstream.client import ChatClient

_ASK_SECONDS = 10.0
Prompt = str | tuple[int, ...]


async def tokens_of(client: ChatClient, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The tokens of each prompt, between those that the model sets around a text. What users wrote is ordinary text,
    whatever it looks like."""
    before, after = ([], []) if all(isinstance(prompt, str) for prompt in prompts) else await _surrounding(client)
    return [
        await _tokenized(client, prompt) if isinstance(prompt, str) else [*before, *prompt, *after]
        for prompt in prompts
    ]


def grouped(prompts: Sequence[list[int]], most_tokens: int) -> Iterator[list[list[int]]]:
    """The prompts in their order, as many at once as have at most so many tokens together."""
    group: list[list[int]] = []
    for prompt in prompts:
        if group and sum(map(len, group)) + len(prompt) > most_tokens:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


async def _surrounding(client: ChatClient) -> tuple[list[int], list[int]]:
    """The tokens that the model sets before a text and after it."""
    bare, whole = await _tokenized(client, "a", alone=True), await _tokenized(client, "a")
    start = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
    return whole[:start], whole[start + len(bare) :]


async def _tokenized(client: ChatClient, text: str, *, alone: bool = False) -> list[int]:
    question = {"content": text, "add_special": not alone, "parse_special": False}
    tokens: list[int] = (await client.post("/tokenize", question, _ASK_SECONDS))["tokens"]
    return tokens
