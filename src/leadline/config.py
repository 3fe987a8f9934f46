"""The configuration: `leadline.toml`, overridden by `LEADLINE_SECTION__KEY`. Read once; nothing else reads it."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from leadline.errors import LeadlineError
from leadline.money import usd

NotNegative = Annotated[int, msgspec.Meta(ge=0)]
Capability = Literal["chat", "completions", "tools", "json", "logprobs", "vision", "embeddings", "reasoning"]

# The servers of one engine.
MOST_URLS = 256

# Variables that are not settings: where the instance is, its secret, the key of `leadline chat`, what the tests use.
_NOT_SETTINGS = ("LEADLINE_DATA", "LEADLINE_SECRET", "LEADLINE_API_KEY", "LEADLINE_CI")
_NOT_SETTINGS_PREFIX = "LEADLINE_TEST_"
_LEAST_BATCH_TOKENS = 64


class ConfigurationError(LeadlineError):
    """The configuration cannot be used."""


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`trusted_proxies` are addresses and networks whose word on where a request came from is taken."""

    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()


class DatabaseSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the books are: `sqlite`, which is a file in the data folder, or PostgreSQL's `postgresql://…`."""

    url: str = "sqlite"

    @property
    def in_folder(self) -> bool:
        return self.url == "sqlite"


class Credits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Credits that are added end with the day that is `expire_after_days` days later (UTC), unless a grant says another
    one; 0: never."""

    starter_usd: Decimal = Decimal("5.00")
    expire_after_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0


class Accounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may become a user: nobody (`off`), who is invited, or anybody (`open`), then only with an e-mail of one of
    `email_domains`, if there are any."""

    sign_up: Literal["invite", "off", "approval", "open"] = "invite"
    email_domains: tuple[str, ...] = ()


class Smtp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server that takes our mails, such as `smtps://user:password@mail.example:465`, and from whom they are."""

    url: str | None = None
    sender: str | None = msgspec.field(name="from", default=None)


class StripeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who takes payments; without it an administrator grants credits. The secrets, or the environment variables that
    hold them. `issuer` are the lines at the head of receipts: who was paid. `api_base` is for tests: another server
    that speaks as Stripe does."""

    secret_key: str | None = None
    secret_key_env: str | None = None
    webhook_secret: str | None = None
    webhook_secret_env: str | None = None
    issuer: tuple[str, ...] = ()
    api_base: str | None = None


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """0 means no limit."""

    requests_per_second: NotNegative = 0
    requests_per_minute: NotNegative = 480
    tokens_per_minute: NotNegative = 2_000_000
    concurrent_requests: NotNegative = 0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    default: Limit = Limit()


class UsageSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the record of each request is kept; 0: for ever. Sums and the ledger always are."""

    keep_requests_days: NotNegative = 365


class Grpc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The files of a certificate and its key, in PEM form; without them gRPC is plain. `reflection` lets holders of a
    key list the services."""

    tls_certificate: str | None = None
    tls_private_key: str | None = None
    reflection: bool = False


class Management(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The management API has a port of its own (0: a free one); without it, it is under /management of the first."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None


class MetricsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may read `/metrics`: whoever has the token; or whoever reaches a port of its own (0: a free one), and there
    needs the token too, where one is set. Without both there is no such page."""

    token: Annotated[str, msgspec.Meta(min_length=16)] | None = None
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None


class TracesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where spans of requests go, by OTLP over HTTP, such as `http://collector:4318/v1/traces`, and of which part of
    all requests. Without an endpoint there are none."""

    endpoint: Annotated[str, msgspec.Meta(pattern="^https?://")] | None = None
    sample_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01


class Images(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    allow_private_hosts: tuple[str, ...] = ()


class FilesSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The most that one organisation may keep; 0 means no limit."""

    per_organisation: NotNegative = 1000
    megabytes_per_organisation: NotNegative = 2000


class EngineSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`url` and the keys belong to remote kinds, and `urls`, of several servers that run the same models. With
    `discover` every address of the one URL's host is such a server. `parallel_requests` are what each of them runs at
    once, or an embedded engine. `weights` (a pulled model's name, or a GGUF file) and what follows belong to embedded
    ones: `llamacpp`, `openvino`, and `auto`, which takes the faster of both that can run the model.
    `prefix_reuse` is `openvino`'s: whether it uses prompts again, while one organisation alone uses the model.
    `requantise` is `llamacpp`'s: whether it may turn types of tensors that it reads slowly into others, once; so are
    `batch_tokens`, of which pieces prompts are read, and `cache_type`, in which it keeps tokens.
    `projector` is the GGUF file that makes the model see; absent: the one that it was pulled with. 0 leaves
    the choice to the engine. A model is loaded at the start or on demand. While it loads, requests wait
    `load_wait_seconds` (absent: 0 where it is loaded at the start, else 60). `unload_after_seconds` 0: never."""

    name: str
    kind: Literal["auto", "llamacpp", "openvino", "openai", "vllm"]
    url: str | None = None
    urls: tuple[str, ...] = ()
    discover: Literal["dns"] | None = None
    api_key: str | None = None
    api_key_env: str | None = None
    weights: str | None = None
    projector: str | None = None
    context_tokens: NotNegative = 0
    parallel_requests: NotNegative = 0
    threads: NotNegative = 0
    load: Literal["start", "demand"] = "start"
    load_wait_seconds: Annotated[int, msgspec.Meta(ge=0, le=600)] | None = None
    unload_after_seconds: NotNegative = 0
    prefix_reuse: bool = True
    requantise: Literal["auto", "off"] = "auto"
    batch_tokens: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    cache_type: Literal["auto", "f16", "q8_0"] = "auto"

    @property
    def embedded(self) -> bool:
        """Whether it runs here, in a child of ours."""
        return self.kind in ("auto", "llamacpp", "openvino")


class HubSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where weights named `hf:…` come from. `endpoint` absent: HF_ENDPOINT of the environment, else the public hub."""

    endpoint: str | None = None


class Embedded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all embedded engines share. `memory_megabytes` bounds what they take together; 0: four fifths of
    the machine's memory."""

    memory_megabytes: NotNegative = 0


class PriceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens. What is missing costs as `input`, reasoning as `output`. A prompt of
    `long_context_threshold` tokens or more (0: there is none) has the prices `…_long_context` for all its request's
    tokens; one that is missing or 0 is the same as without, that of reasoning as `output_long_context`."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cached_input: Decimal | None = None
    image: Decimal | None = None
    reasoning: Decimal | None = None
    long_context_threshold: NotNegative = 0
    input_long_context: Decimal | None = None
    cached_input_long_context: Decimal | None = None
    image_long_context: Decimal | None = None
    output_long_context: Decimal | None = None
    reasoning_long_context: Decimal | None = None


class ModelSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    engine: str
    upstream_model: str | None = None
    aliases: tuple[str, ...] = ()
    context_tokens: int | None = None
    default_max_output_tokens: int = 512
    capabilities: tuple[Capability, ...] | None = None
    prices: PriceSection = PriceSection()


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: Server = Server()
    database: DatabaseSection = DatabaseSection()
    credits: Credits = Credits()
    accounts: Accounts = Accounts()
    smtp: Smtp = Smtp()
    stripe: StripeSection = StripeSection()
    limits: Limits = Limits()
    usage: UsageSection = UsageSection()
    images: Images = Images()
    grpc: Grpc = Grpc()
    management: Management = Management()
    metrics: MetricsSection = MetricsSection()
    traces: TracesSection = TracesSection()
    files: FilesSection = FilesSection()
    embedded: Embedded = Embedded()
    hub: HubSection = HubSection()
    engines: tuple[EngineSection, ...] = ()
    models: tuple[ModelSection, ...] = ()


def load(path: Path, environment: Mapping[str, str] = os.environ) -> Config:
    """The file at `path` (none: all defaults) with the environment's overrides, or ConfigurationError."""
    try:
        text = path.read_text("utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path.name} is not valid TOML: {error}") from None
    return parse(text, path.name, environment)


def parse(text: str, file: str, environment: Mapping[str, str] = os.environ) -> Config:
    """What `load` makes of a file of that name that holds the text."""
    document = read_toml(text, file)
    config = _convert(document, lambda table, key: _place(file, text, table, key))
    overridden = _override(document, environment)
    if overridden:
        config = _convert(document, lambda table, key: f"the environment variable {_variable(table, key, environment)}")
    _check(config)
    return config


def read_toml(text: str, file: str) -> dict[str, Any]:
    """The text as plain values, or ConfigurationError."""
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from None


def origins(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Where each setting comes from that is not a default: the file's name, or the variable. Dotted, as `smtp.url`."""
    document = tomllib.loads(path.read_text("utf-8")) if path.exists() else {}
    found = {_dotted(table, key): path.name for table, section in document.items() for key in _leaves(section)}
    return found | {".".join(keys): variable for variable, keys in _settings(environment)}


def overriding(key: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The environment variable that holds instead of what the file says of this setting; None: the file holds."""
    wanted = key.split(".")
    return next((variable for variable, path in _settings(environment) if path == wanted[: len(path)]), None)


def _leaves(section: Any) -> list[str]:
    """The keys of a section, with those of the sections in it; of a list only itself, which has no name."""
    if not isinstance(section, dict):
        return [""]
    return [_dotted(key, leaf) for key, value in section.items() for leaf in _leaves(value)]


def _convert(document: dict[str, Any], place: Callable[[str, str], str]) -> Config:
    try:
        return msgspec.convert(document, Config, strict=True)
    except msgspec.ValidationError as error:
        sentence, _, where = str(error).partition(" - at `$")
        table = where.rstrip("`").lstrip(".")
        if unknown := re.search(r"unknown field `(.*)`", sentence):
            key = unknown.group(1)
            raise ConfigurationError(f"{place(table, key)}: there is no setting {_dotted(table, key)!r}.") from None
        table, _, key = table.rpartition(".")
        if missing := re.search(r"missing required field `(.+)`", sentence):
            table, key = (f"{table}.{key}" if table else key), missing.group(1)
            raise ConfigurationError(f"{place(table, '')}: {_dotted(table, key)!r} is missing.") from None
        expected = sentence[0].lower() + sentence[1:].replace("`", "")
        raise ConfigurationError(f"{place(table, key)}: {_dotted(table, key)!r} is wrong: {expected}.") from None


def _dotted(table: str, key: str) -> str:
    return f"{table}.{key}" if table and key else table or key


def _variable(table: str, key: str, environment: Mapping[str, str]) -> str:
    """The variable that set this key, or a part of it, or all of its section."""
    wanted = _dotted(_without_indexes(table), _without_indexes(key)).split(".")
    for variable, path in _settings(environment):
        if all(mine == theirs for mine, theirs in zip(path, wanted, strict=False)):
            return variable
    return "LEADLINE_" + "__".join(wanted).upper()


def _settings(environment: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The variables that are settings, each with the path of its key."""
    return [
        (name, name.removeprefix("LEADLINE_").lower().split("__"))
        for name in sorted(environment)
        if name.startswith("LEADLINE_") and name not in _NOT_SETTINGS and not name.startswith(_NOT_SETTINGS_PREFIX)
    ]


def _without_indexes(path: str) -> str:
    return re.sub(r"\[\d+\]", "", path)


def _place(file: str, text: str, table: str, key: str) -> str:
    """`file:line` of a key, found by reading the headers and keys line by line."""
    path, key, index = _without_indexes(table), _without_indexes(key), re.search(r"\[(\d+)\]", table)
    current, seen, fallback = "", -1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            current = header.group(1)
            seen += line.lstrip().startswith("[[") and current == path.split(".")[0]
            if not key and current == path and (index is None or seen == int(index.group(1))):
                return f"{file}:{number}"
            if current == _dotted(path, key):
                return f"{file}:{number}"
        in_table = path.startswith(current) and (index is None or seen == int(index.group(1)))
        if in_table and key and re.search(rf"(^|[{{,.\s])\"?{re.escape(key)}\"?\s*=", line):
            if current == path:
                return f"{file}:{number}"
            fallback = fallback or number
    return f"{file}:{fallback}" if fallback else file


def _override(document: dict[str, Any], environment: Mapping[str, str]) -> bool:
    settings = _settings(environment)
    for variable, (*tables, key) in settings:
        section = document
        for table in tables:
            section = section.setdefault(table, {})
            if not isinstance(section, dict):
                raise ConfigurationError(
                    f"the environment variable {variable} reaches into {table!r}, which is not a section."
                )
        section[key] = value_of(environment[variable])
    return bool(settings)


def value_of(text: str) -> Any:
    """A TOML value where it is one (`5`, `true`, `["a"]`), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}", parse_float=Decimal)["value"]
    except tomllib.TOMLDecodeError:
        return text


def _check(config: Config) -> None:
    """What the types cannot say."""
    if (config.grpc.tls_certificate is None) != (config.grpc.tls_private_key is None):
        raise ConfigurationError("[grpc] needs both of tls_certificate and tls_private_key, or neither.")
    _check_credits(config.credits)
    _check_proxies(config.server.trusted_proxies)
    _check_mail(config)
    engines = [engine.name for engine in config.engines]
    models = [model.name for model in config.models]
    for kind, names in (("engine", engines), ("model", models)):
        for name in names:
            if names.count(name) > 1:
                raise ConfigurationError(f"two [[{kind}s]] are named {name!r}.")
    for engine in config.engines:
        _check_engine(engine)
        _check_pieces(engine)
    for model in config.models:
        if config.engines and model.engine not in engines:
            raise ConfigurationError(f"model {model.name!r} names the engine {model.engine!r}, which is not there.")
        if model.default_max_output_tokens < 1 or (model.context_tokens is not None and model.context_tokens < 1):
            raise ConfigurationError(f"model {model.name!r}: token counts must be at least 1.")
    # What it is does not go into the error: it may hold a password.
    if config.database.url != "sqlite" and not re.fullmatch(r"postgres(ql)?://\S+", config.database.url):
        raise ConfigurationError(
            "database.url is neither 'sqlite' nor an address such as 'postgresql://leadline:password@db.example/leadline'."
        )


def _check_engine(engine: EngineSection) -> None:
    for key, value in (("url", engine.url), ("urls", engine.urls), ("discover", engine.discover)):
        if engine.embedded and value:
            raise ConfigurationError(f"engine {engine.name!r} is embedded ({engine.kind}) and takes no {key}.")
    if not engine.embedded:
        _check_urls(engine)
    if not engine.embedded and engine.weights is not None:
        raise ConfigurationError(f"engine {engine.name!r} is remote and takes no weights.")
    if not engine.embedded and engine.projector is not None:
        raise ConfigurationError(f"engine {engine.name!r} is remote and takes no projector.")


def _check_pieces(engine: EngineSection) -> None:
    # Each request that runs has a token in a piece, too.
    least = max(_LEAST_BATCH_TOKENS, 2 * engine.parallel_requests)
    if 0 < engine.batch_tokens < least:
        raise ConfigurationError(f"engine {engine.name!r}: batch_tokens is 0 or at least {least}.")


def _check_proxies(proxies: tuple[str, ...]) -> None:
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError:
            raise ConfigurationError(
                f"server.trusted_proxies: {proxy!r} is no address or network such as '127.0.0.1' or '10.0.0.0/8'."
            ) from None


def _check_urls(engine: EngineSection) -> None:
    if engine.url is not None and engine.urls:
        raise ConfigurationError(f"engine {engine.name!r} has url and urls: name all of its servers in urls.")
    if engine.discover is not None and engine.url is None:
        raise ConfigurationError(f"engine {engine.name!r} finds its servers by the name in url, not in urls.")
    for url in engine.urls or (engine.url or "",):
        if not _is_url(url):
            raise ConfigurationError(f"engine {engine.name!r} needs a url such as http://127.0.0.1:8000/v1.")
    if len({url.rstrip("/") for url in engine.urls}) < len(engine.urls) or len(engine.urls) > MOST_URLS:
        raise ConfigurationError(f"engine {engine.name!r} needs urls that differ, and at most {MOST_URLS}.")


def _is_url(url: str) -> bool:
    """Whether it is an address of a server, with a port that there can be and nothing behind its path."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and plain and url.isprintable()


def _check_mail(config: Config) -> None:
    for domain in config.accounts.email_domains:
        if domain != domain.lower() or not re.fullmatch(r"[^@\s]+\.[^@\s.]+", domain):
            raise ConfigurationError(f"accounts.email_domains: {domain!r} is no domain such as 'northwind.example'.")
    if config.smtp.url is None:
        return
    # What it is does not go into the error: it may hold a password.
    if not re.fullmatch(r"smtps?://[^/\s]+/?", config.smtp.url):
        raise ConfigurationError("smtp.url is no address such as 'smtps://user:password@mail.example:465'.")
    if not re.fullmatch(r"(.*<)?[^@\s<>]+@[^@\s<>]+>?", config.smtp.sender or ""):
        raise ConfigurationError("[smtp] needs 'from', such as 'Leadline <leadline@northwind.example>'.")


def _check_credits(credits: Credits) -> None:
    try:
        starter = usd(credits.starter_usd)
    except ValueError:
        raise ConfigurationError(f"credits.starter_usd is {credits.starter_usd}, no amount of US dollars.") from None
    if starter < 0:
        raise ConfigurationError(f"credits.starter_usd is {credits.starter_usd}, below zero.")
