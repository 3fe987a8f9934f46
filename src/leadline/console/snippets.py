"""A request as code in five languages, ready to run: what the API keys page, the playground and empty states show."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

KEY_VARIABLE = "XAI_API_KEY"
# Anthropic's API wants a bound for every answer.
_ANTHROPIC_TOKENS = 1024
# It asks for JSON by a schema alone: that of any object.
_ANTHROPIC_JSON = {"format": {"type": "json_schema", "schema": {"type": "object"}}}

Language = Literal["shell", "python", "javascript"]


@dataclass(frozen=True, slots=True)
class Host:
    """Where clients reach this server: `base_url` over HTTP, `grpc_address` over gRPC."""

    base_url: str
    grpc_address: str
    grpc_tls: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said, with pictures as data URLs."""

    role: Literal["user", "assistant"]
    text: str
    images: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked. None: the setting is not named, so the model's default holds."""

    model: str
    turns: Sequence[Turn] = (Turn("user", "Hello"),)
    system: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    json_answer: bool = False
    stream: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """Those that are named, as OpenAI's API calls them."""
        named = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Snippet:
    """`name` is the tab's."""

    name: str
    language: Language
    code: str = field(repr=False)


def snippets(ask: Ask, host: Host) -> list[Snippet]:
    """The same request five times. The key is read from the environment variable XAI_API_KEY."""
    return [
        Snippet("curl", "shell", _curl(ask, host)),
        Snippet("Python", "python", _openai_python(ask, host)),
        Snippet("JavaScript", "javascript", _openai_javascript(ask, host)),
        Snippet("Anthropic", "python", _anthropic(ask, host)),
        Snippet("xai-sdk", "python", _xai(ask, host)),
    ]


def asking(model: str, endpoint: Literal["embeddings", "completions"], host: Host) -> list[Snippet]:
    """How to ask a model that does not chat, in curl and Python."""
    name, text = ("input", "The sea is wide.") if endpoint == "embeddings" else ("prompt", "The sea is")
    read = "data[0].embedding[:8]" if endpoint == "embeddings" else "choices[0].text"
    body = _JSON.write({"model": model, name: text})
    curl = (
        f"curl -s {host.base_url}/v1/{endpoint} \\\n"
        f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {_quoted(body)}\n"
    )
    client = _python_arguments({"base_url": f"{host.base_url}/v1"}, first=f'api_key=os.environ["{KEY_VARIABLE}"]')
    python = (
        f"import os\n\nfrom openai import OpenAI\n\nclient = OpenAI({client})\n\n"
        f"answer = client.{endpoint}.create({_python_arguments({'model': model, name: text})})\n"
        f"print(answer.{read})\n"
    )
    return [Snippet("curl", "shell", curl), Snippet("Python", "python", python)]


def _curl(ask: Ask, host: Host) -> str:
    body = _JSON.write({"model": ask.model, **ask.settings, **_form(ask), "messages": _openai_messages(ask)})
    flags = "-sN" if ask.stream else "-s"
    # An argument of a command may have 128 KiB on Linux (MAX_ARG_STRLEN), which pictures exceed. No line of the body is
    # the word that ends it: each begins with a bracket, a quotation mark or a space.
    pictures = any(turn.images for turn in ask.turns)
    sent = f"@- <<'END'\n{body}\nEND" if pictures else _quoted(body)
    return (
        f"curl {flags} {host.base_url}/v1/chat/completions \\\n"
        f'  -H "Authorization: Bearer ${KEY_VARIABLE}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {sent}\n"
    )


def _openai_python(ask: Ask, host: Host) -> str:
    arguments = {"model": ask.model, **ask.settings, **_form(ask), "messages": _openai_messages(ask)}
    called = _python_arguments(arguments)
    client = _python_arguments({"base_url": f"{host.base_url}/v1"}, first=f'api_key=os.environ["{KEY_VARIABLE}"]')
    read = (
        'for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="")\n'
        if ask.stream
        else "print(answer.choices[0].message.content)\n"
    )
    return (
        "import os\n\nfrom openai import OpenAI\n\n"
        f"client = OpenAI({client})\n\nanswer = client.chat.completions.create({called})\n{read}"
    )


def _openai_javascript(ask: Ask, host: Host) -> str:
    arguments = {"model": ask.model, **ask.settings, **_form(ask), "messages": _openai_messages(ask)}
    read = (
        'for await (const chunk of answer) {\n  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n}\n'
        if ask.stream
        else "console.log(answer.choices[0].message.content);\n"
    )
    return (
        'import OpenAI from "openai";\n\n'
        f"const client = new OpenAI({{\n  apiKey: process.env.{KEY_VARIABLE},\n"
        f"  baseURL: {_javascript(f'{host.base_url}/v1')},\n}});\n\n"
        f"const answer = await client.chat.completions.create({_javascript(arguments)});\n{read}"
    )


def _anthropic(ask: Ask, host: Host) -> str:
    settings: dict[str, Any] = {"max_tokens": ask.max_tokens or _ANTHROPIC_TOKENS}
    # Anthropic's SDK lost these arguments, but its API has them.
    drawn = {name: value for name, value in ask.settings.items() if name != "max_tokens"}
    settings |= {"extra_body": drawn} if drawn else {}
    settings |= {"system": ask.system} if ask.system else {}
    settings |= {"output_config": _ANTHROPIC_JSON} if ask.json_answer else {}
    arguments = _python_arguments({"model": ask.model, **settings, "messages": _anthropic_messages(ask)})
    client = _python_arguments({"base_url": host.base_url}, first=f'api_key=os.environ["{KEY_VARIABLE}"]')
    head = f"import os\n\nfrom anthropic import Anthropic\n\nclient = Anthropic({client})\n\n"
    if ask.stream:
        return (
            f"{head}with client.messages.stream({arguments}) as stream:\n"
            '    for text in stream.text_stream:\n        print(text, end="")\n'
        )
    return f"{head}answer = client.messages.create({arguments})\nprint(answer.content[0].text)\n"


def _xai(ask: Ask, host: Host) -> str:
    settings: dict[str, Any] = {"model": ask.model, **ask.settings}
    settings |= {"response_format": "json_object"} if ask.json_answer else {}
    channel = {"api_host": host.grpc_address}
    plain = not host.grpc_tls and not host.grpc_address.startswith("localhost:")
    client = _python_arguments(
        channel | ({"use_insecure_channel": True} if plain else {}), first=f'api_key=os.environ["{KEY_VARIABLE}"]'
    )
    makers = {turn.role for turn in ask.turns} | ({"system"} if ask.system else set())
    makers |= {"image"} if any(turn.images for turn in ask.turns) else set()
    lines = [f"chat.append(system({_python(ask.system)}))"] if ask.system else []
    for turn in ask.turns:
        said = [f"image({_python(url)})" for url in turn.images]
        said += [_python(turn.text)] if turn.text or not said else []
        lines.append(f"chat.append({turn.role}({', '.join(said)}))")
    read = (
        'for _, chunk in chat.stream():\n    print(chunk.content, end="")\n'
        if ask.stream
        else "print(chat.sample().content)\n"
    )
    return (
        f"import os\n\nfrom xai_sdk import Client\nfrom xai_sdk.chat import {', '.join(sorted(makers))}\n\n"
        f"client = Client({client})\n\nchat = client.chat.create({_python_arguments(settings)})\n"
        + "\n".join(lines)
        + f"\n{read}"
    )


def _form(ask: Ask) -> dict[str, Any]:
    form: dict[str, Any] = {"response_format": {"type": "json_object"}} if ask.json_answer else {}
    return form | ({"stream": True} if ask.stream else {})


def _openai_messages(ask: Ask) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": ask.system}] if ask.system else []
    for turn in ask.turns:
        content: Any = turn.text
        if turn.images:
            content = [{"type": "image_url", "image_url": {"url": url}} for url in turn.images]
            content += [{"type": "text", "text": turn.text}] if turn.text else []
        messages.append({"role": turn.role, "content": content})
    return messages


def _anthropic_messages(ask: Ask) -> list[dict[str, Any]]:
    messages = []
    for turn in ask.turns:
        content: Any = turn.text
        if turn.images:
            content = [{"type": "image", "source": _anthropic_source(url)} for url in turn.images]
            content += [{"type": "text", "text": turn.text}] if turn.text else []
        messages.append({"role": turn.role, "content": content})
    return messages


def _anthropic_source(url: str) -> dict[str, str]:
    media_type, _, base64 = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": media_type, "data": base64}


def _quoted(text: str) -> str:
    """One word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


@dataclass(frozen=True, slots=True)
class _Style:
    """How a language writes lists and objects."""

    indent: str
    quotes_names: bool
    trailing_comma: bool
    pad: str = ""

    def write(self, value: object) -> str:
        if not isinstance(value, list | dict):
            return repr(value) if isinstance(value, bool) and self is _PYTHON else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):
            parts, (left, right), pad = [self.write(one) for one in value], "[]", ""
        else:
            names = (json.dumps(name) if self.quotes_names else name for name in value)
            parts = [f"{name}: {self.write(one)}" for name, one in zip(names, value.values(), strict=True)]
            (left, right), pad = "{}", self.pad
        one_line = ", ".join(parts)
        if len(one_line) <= _ONE_LINE and "\n" not in one_line:
            return f"{left}{pad}{one_line}{pad}{right}"
        inside = ",\n".join(self.indent + part.replace("\n", f"\n{self.indent}") for part in parts)
        return f"{left}\n{inside}{',' if self.trailing_comma else ''}\n{right}"


_ONE_LINE = 72
_PYTHON = _Style("    ", quotes_names=True, trailing_comma=True)
_JAVASCRIPT = _Style("  ", quotes_names=False, trailing_comma=True, pad=" ")
_JSON = _Style("  ", quotes_names=True, trailing_comma=False)
# A text of JSON is a text in all three languages.
_python, _javascript = _PYTHON.write, _JAVASCRIPT.write


def _python_arguments(arguments: dict[str, Any], first: str = "") -> str:
    parts = [*([first] if first else []), *(f"{name}={_python(value)}" for name, value in arguments.items())]
    one_line = ", ".join(parts)
    if len(one_line) <= _ONE_LINE and "\n" not in one_line:
        return one_line
    return "\n" + "".join("    " + part.replace("\n", "\n    ") + ",\n" for part in parts)
