"""How each endpoint of the API is called: the same request with curl and in the SDKs, ready to run."""

import json
from collections.abc import Mapping
from typing import Any

from leadline.console.docs.markdown import Code

Json = Any
# What each SDK calls an endpoint, in Python and in JavaScript. Endpoints without a name are called by their path.
_OPENAI: Mapping[tuple[str, str], tuple[str, str]] = {
    ("POST", "/v1/chat/completions"): ("chat.completions.create", "chat.completions.create"),
    ("POST", "/v1/completions"): ("completions.create", "completions.create"),
    ("POST", "/v1/embeddings"): ("embeddings.create", "embeddings.create"),
    ("POST", "/v1/responses"): ("responses.create", "responses.create"),
    ("POST", "/v1/responses/input_tokens"): ("responses.input_tokens.count", "responses.inputTokens.count"),
    ("GET", "/v1/responses/{id}"): ("responses.retrieve", "responses.retrieve"),
    ("DELETE", "/v1/responses/{id}"): ("responses.delete", "responses.delete"),
    ("GET", "/v1/responses/{id}/input_items"): ("responses.input_items.list", "responses.inputItems.list"),
    ("GET", "/v1/models"): ("models.list", "models.list"),
    ("GET", "/v1/models/{model}"): ("models.retrieve", "models.retrieve"),
    ("GET", "/v1/files"): ("files.list", "files.list"),
    ("GET", "/v1/files/{id}"): ("files.retrieve", "files.retrieve"),
    ("DELETE", "/v1/files/{id}"): ("files.delete", "files.delete"),
}
_ANTHROPIC: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/messages"): "messages.create",
    ("POST", "/v1/messages/count_tokens"): "messages.count_tokens",
    ("GET", "/v1/models"): "models.list",
    ("GET", "/v1/models/{model}"): "models.retrieve",
}
# What to make of a client of xAI's SDK, and what it imports.
_XAI: Mapping[tuple[str, str], tuple[str, str]] = {
    ("POST", "/v1/chat/completions"): (
        'chat = client.chat.create(model="{{model}}")\n'
        'chat.append(user("What is the capital of Norway?"))\nprint(chat.sample().content)\n',
        "from xai_sdk.chat import user\n",
    ),
    ("POST", "/v1/tokenize-text"): ('print(client.tokenize.tokenize_text("Oslo", "{{model}}"))\n', ""),
    ("GET", "/v1/language-models"): ("print(client.models.list_language_models())\n", ""),
    ("GET", "/v1/language-models/{model}"): ('print(client.models.get_language_model("{{model}}"))\n', ""),
    ("GET", "/v1/embedding-models"): ("print(client.models.list_embedding_models())\n", ""),
    ("GET", "/v1/api-key"): ("print(client.auth.get_api_key_info())\n", ""),
    ("POST", "/v1/batches"): ('print(client.batch.create("capitals"))\n', ""),
    ("GET", "/v1/batches"): ("print(client.batch.list())\n", ""),
    ("GET", "/v1/batches/{id}"): ('print(client.batch.get(os.environ["ID"]))\n', ""),
    ("GET", "/v1/files"): ("print(client.files.list())\n", ""),
    ("GET", "/v1/files/{id}"): ('print(client.files.get(os.environ["ID"]))\n', ""),
    ("GET", "/v1/files/{id}/content"): ('print(client.files.content(os.environ["ID"]))\n', ""),
    ("DELETE", "/v1/files/{id}"): ('print(client.files.delete(os.environ["ID"]))\n', ""),
}
_MODELS = {"smollm2-135m-instruct": "{{model}}", "all-minilm-l6-v2": "{{embedding_model}}"}
_OF_PATHS = {"/v1/embedding-models/{model}": "{{embedding_model}}"}
UPLOAD = "/v1/files"


def calls(method: str, path: str, body: Json, *, answers: bool, anthropic: bool) -> list[Code]:
    """One for each client that has a way to call it; what is always refused has only curl. `{id}` of the path is taken
    from the variable ID."""
    body = json.loads(of_this_server(json.dumps(body))) if body is not None else None
    codes = [Code("bash", _curl(method, path, body, anthropic=anthropic), "curl")]
    if not answers:
        return codes
    if not anthropic:
        codes.append(Code("python", _python(method, path, body), "Python"))
        codes.append(Code("javascript", _javascript(method, path, body), "JavaScript"))
    if (method, path) in _ANTHROPIC:
        codes.append(Code("python", _of_anthropic(_ANTHROPIC[method, path], path, body), "Anthropic"))
    if (method, path) in _XAI:
        codes.append(Code("python", _of_xai(*_XAI[method, path]), "xai-sdk"))
    return codes


def of_this_server(text: str) -> str:
    """An example of the API's description, with placeholders for the models that it names."""
    for told, placeholder in _MODELS.items():
        text = text.replace(told, placeholder)
    return text


def _curl(method: str, path: str, body: Json, *, anthropic: bool) -> str:
    url = "{{base_url}}" + _model_in(path).replace("{id}", "$ID")
    key = '"x-api-key: $XAI_API_KEY"' if anthropic else '"Authorization: Bearer $XAI_API_KEY"'
    lines = [f'curl "{url}"' if "$" in url else f"curl {url}", f"  -H {key}"]
    if method not in ("GET", "POST") or (method == "POST" and body is None and path != UPLOAD):
        lines[0] = lines[0].replace("curl", f"curl -X {method}", 1)
    if anthropic:
        lines.append('  -H "anthropic-version: 2023-06-01"')
    if path == UPLOAD and method == "POST":
        lines += ["  -F purpose=notes", "  -F file=@notes.txt"]
    if body is not None:
        lines.append('  -H "Content-Type: application/json"')
        lines.append(f"  -d '{json.dumps(body, indent=2, ensure_ascii=False)}'".replace("\n", "\n  "))
    return " \\\n".join(lines) + "\n"


def _model_in(path: str) -> str:
    return path.replace("{model}", _OF_PATHS.get(path, "{{model}}"))


def _python(method: str, path: str, body: Json) -> str:
    named = _OPENAI.get((method, path))
    if method == "POST" and path == UPLOAD:
        call = 'client.files.create(file=open("notes.txt", "rb"), purpose="notes")  # any purpose of your own'
    elif path.endswith("/content"):
        call = 'client.files.content(os.environ["ID"]).text'
    elif named is not None:
        given = [_argument(path, "python")] if "{" in path else []
        given += [f"{name}={_python_value(value)}" for name, value in (body or {}).items()]
        call = f"client.{named[0]}({_spread(given)})"
    else:
        url = _by_path(path, 'f"', '{os.environ["ID"]}').replace('{os.environ["ID"]}', "{os.environ['ID']}")
        given = [url, "cast_to=object", *([f"body={_python_value(body)}"] if body is not None else [])]
        call = f"client.{method.lower()}({_spread(given)})"
    client = 'client = OpenAI(base_url="{{base_url}}/v1", api_key=os.environ["XAI_API_KEY"])'
    return f"import os\nfrom openai import OpenAI\n\n{client}\n\nanswer = {call}\nprint(answer)\n"


def _javascript(method: str, path: str, body: Json) -> str:
    named, imports = _OPENAI.get((method, path)), 'import OpenAI from "openai";\n'
    if method == "POST" and path == UPLOAD:
        imports = f'import fs from "node:fs";\n{imports}'
        call = 'client.files.create({ file: fs.createReadStream("notes.txt"), purpose: "notes" })'
    elif path.endswith("/content"):
        call = "(await client.files.content(process.env.ID)).text()"
    elif named is not None:
        given = [_argument(path, "javascript")] if "{" in path else []
        given += [_javascript_value(body)] if body is not None else []
        call = f"client.{named[1]}({', '.join(given)})"
    else:
        given = [_by_path(path, "`", "${process.env.ID}")]
        given += [f"{{ body: {_javascript_value(body)} }}"] if body is not None else []
        call = f"client.{method.lower()}({', '.join(given)})"
    client = 'const client = new OpenAI({ baseURL: "{{base_url}}/v1", apiKey: process.env.XAI_API_KEY });'
    return f"{imports}\n{client}\n\nconst answer = await {call};\nconsole.log(answer);\n"


def _argument(path: str, language: str) -> str:
    if "{model}" in path:
        return '"{{model}}"'
    return 'os.environ["ID"]' if language == "python" else "process.env.ID"


def _by_path(path: str, quote: str, variable: str) -> str:
    """The path as an SDK takes it: below `/v1`, and as a text with a variable in it only where there is one."""
    below = _model_in(path).removeprefix("/v1")
    return f"{quote}{below.replace('{id}', variable)}{quote[-1]}" if "{id}" in below else f'"{below}"'


def _of_anthropic(name: str, path: str, body: Json) -> str:
    given = ['"{{model}}"'] if "{model}" in path else []
    given += [f"{name}={_python_value(value)}" for name, value in (body or {}).items()]
    client = 'client = Anthropic(base_url="{{base_url}}", api_key=os.environ["XAI_API_KEY"])'
    call = f"client.{name}({_spread(given)})"
    return f"import os\nfrom anthropic import Anthropic\n\n{client}\n\nanswer = {call}\nprint(answer)\n"


def _of_xai(call: str, imports: str) -> str:
    client = 'client = Client(api_key=os.environ["XAI_API_KEY"], api_host="{{grpc_address}}"{{grpc_plain}})'
    return f"import os\nfrom xai_sdk import Client\n{imports}\n{client}\n\n{call}"


def _spread(given: list[str]) -> str:
    """Arguments on one line, or each on its own."""
    one_line = ", ".join(given)
    if len(one_line) <= 60 and "\n" not in one_line:
        return one_line
    return "\n" + "".join("    " + one.replace("\n", "\n    ") + ",\n" for one in given)


def _python_value(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, indent=4 if len(json.dumps(value)) > 80 else None)


def _javascript_value(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
