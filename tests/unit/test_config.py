from decimal import Decimal
from pathlib import Path

import pytest

from leadline.config import Config, ConfigurationError, load

# The example of the documentation, whole.
EXAMPLE = """
[server]
public_url = "http://localhost:8080"   # unset: http://localhost:<bound port>
[database]
url = "sqlite"                          # or postgresql://…
[credits]
starter_usd = 5.00
[limits.default]                        # per organisation and model; 0 = none, for every limit
requests_per_second = 0
requests_per_minute = 480
tokens_per_minute = 2_000_000
concurrent_requests = 0
[images]
allow_private_hosts = []                # names, addresses, networks; any port
[[engines]]
name = "gpu-1"
kind = "vllm"                           # "llamacpp", "openvino" (embedded, started for you), "vllm", or "openai"
url = "http://127.0.0.1:8000/v1"
api_key_env = "GPU_1_KEY"               # optional; or api_key
[[models]]
name = "mock"
engine = "gpu-1"
upstream_model = "mock"
aliases = ["grok-beta", "claude-*"]     # an alias may end in *
context_tokens = 8192
default_max_output_tokens = 1024        # where the request sets none
capabilities = ["chat", "completions", "tools", "vision", "embeddings", "reasoning"]   # absent: the engine decides
prices = { input = 2.00, cached_input = 0.50, output = 10.00, image = 2.00 }   # USD per million tokens
"""

ENGINE = """[[engines]]
name = "gpu-1"
kind = "openai"
url = "http://127.0.0.1:8000/v1"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leadline.toml"


def refusal(path: Path, text: str, **environment: str) -> str:
    """What the owner of this configuration is told."""
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load(path, environment)
    return str(refused.value)


def test_nothing_is_required(path: Path) -> None:
    assert load(path, {}) == Config()


def test_the_example_of_the_documentation_loads(path: Path) -> None:
    path.write_text(EXAMPLE, "utf-8")

    config = load(path, {})

    [model] = config.models
    assert config.credits.starter_usd == Decimal("5.00")
    assert config.engines[0].api_key_env == "GPU_1_KEY"
    assert model.aliases == ("grok-beta", "claude-*")
    assert (model.prices.input, model.prices.cached_input) == (Decimal("2.00"), Decimal("0.50"))


def test_a_price_is_read_as_it_is_written_and_never_as_a_float(path: Path) -> None:
    path.write_text(ENGINE + '[[models]]\nname = "m"\nengine = "gpu-1"\nprices = { input = 0.1 }\n', "utf-8")

    assert load(path, {}).models[0].prices.input == Decimal("0.1")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("colour = 5\n", 1, "colour"),
        ('[server]\npublic_url = "http://a"\nlisten = 1\n', 3, "server.listen"),
        ("[server]\n[server.tls]\nport = 1\n", 2, "server.tls"),
        ("\n[sever]\npublic_url = 1\n", 2, "sever"),
        ("[limits.defalt]\nrequests_per_minute = 1\n", 1, "limits.defalt"),
        (ENGINE + ENGINE.replace("gpu-1", "gpu-2") + "ulr = 1\n", 9, "engines[1].ulr"),
        (ENGINE + '[[models]]\nname = "m"\nengine = "gpu-1"\nprices = { inptu = 1 }\n', 8, "models[0].prices.inptu"),
        ("# public = 1\n[server]\n# public = 1\npublic = 1\n", 4, "server.public"),
    ],
)
def test_an_unknown_key_is_named_with_its_line(path: Path, text: str, line: int, key: str) -> None:
    assert refusal(path, text) == f"leadline.toml:{line}: there is no setting '{key}'."


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\npublic_url = 5\n", "leadline.toml:2: 'server.public_url' is wrong: expected str | null, got int."),
        ("server = 5\n", "leadline.toml:1: 'server' is wrong: expected object, got int."),
        (
            "[limits.default]\n# requests_per_minute = 480\nrequests_per_minute = 1.5\n",
            "leadline.toml:3: 'limits.default.requests_per_minute' is wrong: expected int, got decimal.",
        ),
        (
            "[limits.default]\nrequests_per_minute = -1\n",
            "leadline.toml:2: 'limits.default.requests_per_minute' is wrong: expected int >= 0.",
        ),
        ("[images]\nallow_private_hosts = [5]\n", "leadline.toml:2: 'images.allow_private_hosts[0]' is wrong: "),
        (ENGINE.replace("openai", "gpt"), "leadline.toml:3: 'engines[0].kind' is wrong: invalid enum value 'gpt'."),
        ('[[engines]]\nname = "a"\n', "leadline.toml:1: 'engines[0].kind' is missing."),
        (
            ENGINE + '[[models]]\nname = "m"\nengine = "gpu-1"\n[models.prices]\ninput = true\n',
            "leadline.toml:9: 'models[0].prices.input' is wrong: expected decimal, got bool.",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_line(path: Path, text: str, told: str) -> None:
    assert refusal(path, text).startswith(told)


@pytest.mark.parametrize("content", [b"= 5\n", b"[server\n", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_refused_by_its_name(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"^leadline\.toml is not valid TOML: "):
        load(path, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ENGINE + ENGINE, "two [[engines]] are named 'gpu-1'."),
        (ENGINE.replace("http://", ""), "engine 'gpu-1' needs a url such as http://127.0.0.1:8000/v1."),
        (ENGINE.replace("openai", "llamacpp"), "engine 'gpu-1' is embedded (llamacpp) and takes no url."),
        (ENGINE + 'weights = "a.gguf"\n', "engine 'gpu-1' is remote and takes no weights."),
        (
            ENGINE + '[[models]]\nname = "m"\nengine = "gpu-2"\n',
            "model 'm' names the engine 'gpu-2', which is not there.",
        ),
        (
            ENGINE + '[[models]]\nname = "m"\nengine = "gpu-1"\ndefault_max_output_tokens = 0\n',
            "model 'm': token counts must be at least 1.",
        ),
        ('[smtp]\nurl = "mail.example"\n', "smtp.url is no address such as 'smtps://user:password@mail.example:465'."),
        (
            '[smtp]\nurl = "http://me:hunter2@mail.example"\n',
            "smtp.url is no address such as 'smtps://user:password@mail.example:465'.",
        ),
        (
            '[smtp]\nurl = "smtps://mail.example"\n',
            "[smtp] needs 'from', such as 'Leadline <leadline@northwind.example>'.",
        ),
        (
            '[smtp]\nurl = "smtps://mail.example"\nfrom = "Leadline"\n',
            "[smtp] needs 'from', such as 'Leadline <leadline@northwind.example>'.",
        ),
        ('[smtp]\nsender = "x@y.example"\n', "leadline.toml:2: there is no setting 'smtp.sender'."),
        (
            '[accounts]\nsign_up = "yes"\n',
            "leadline.toml:2: 'accounts.sign_up' is wrong: invalid enum value 'yes'.",
        ),
        (
            '[server]\ntrusted_proxies = ["*"]\n',
            "server.trusted_proxies: '*' is no address or network such as '127.0.0.1' or '10.0.0.0/8'.",
        ),
        (
            '[accounts]\nemail_domains = ["@North.example"]\n',
            "accounts.email_domains: '@North.example' is no domain such as 'northwind.example'.",
        ),
        ("[credits]\nstarter_usd = -1\n", "credits.starter_usd is -1, below zero."),
        (
            "[credits]\nstarter_usd = 0.00000000001\n",
            "credits.starter_usd is 1E-11, no amount of US dollars.",
        ),
        (
            '[database]\nurl = "mysql://leadline:hunter2@db.example/leadline"\n',
            "database.url is neither 'sqlite' nor an address such as"
            " 'postgresql://leadline:password@db.example/leadline'.",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence_that_names_it(path: Path, text: str, told: str) -> None:
    assert refusal(path, text) == told


def test_the_environment_overrides_the_file(path: Path) -> None:
    path.write_text('[server]\npublic_url = "http://file"\n[limits.default]\ntokens_per_minute = 7\n', "utf-8")

    config = load(
        path,
        {
            "LEADLINE_SERVER__PUBLIC_URL": "http://environment",
            "LEADLINE_LIMITS__DEFAULT__REQUESTS_PER_MINUTE": "3",
            "LEADLINE_CREDITS__STARTER_USD": "2.50",
            "LEADLINE_IMAGES__ALLOW_PRIVATE_HOSTS": '["10.0.0.0/8"]',
        },
    )

    assert config.server.public_url == "http://environment"
    assert (config.limits.default.requests_per_minute, config.limits.default.tokens_per_minute) == (3, 7)
    assert config.credits.starter_usd == Decimal("2.50")
    assert config.images.allow_private_hosts == ("10.0.0.0/8",)


@pytest.mark.parametrize(
    "variable",
    [
        "LEADLINE_COLOUR",
        "LEADLINE_DATABASE_URL",
        "LEADLINE_SERVER__LISTEN",
        "LEADLINE_SEVER__PUBLIC_URL",
        "LEADLINE_SERVER__TLS__PORT",
    ],
)
def test_an_unknown_variable_is_an_error_that_names_it(path: Path, variable: str) -> None:
    told = refusal(path, "", **{variable: "1"})

    assert told.startswith(f"the environment variable {variable}: there is no setting '")


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("LEADLINE_LIMITS__DEFAULT__REQUESTS_PER_MINUTE", "many", ": 'limits.default.requests_per_minute' is wrong: "),
        ("LEADLINE_SERVER", "http://a", ": 'server' is wrong: expected object, got str."),
        ("LEADLINE_ENGINES", '[{name = "a"}]', ": 'engines[0].kind' is missing."),
        ("LEADLINE_ENGINES__0__NAME", "a", " reaches into 'engines', which is not a section."),
    ],
)
def test_a_wrong_value_in_the_environment_names_its_variable(path: Path, variable: str, value: str, told: str) -> None:
    assert refusal(path, ENGINE, **{variable: value}).startswith(f"the environment variable {variable}{told}")


def test_variables_that_are_no_settings_are_left_alone(path: Path) -> None:
    environment = {
        "LEADLINE_DATA": "a",
        "LEADLINE_SECRET": "b",
        "LEADLINE_CI": "1",
        "LEADLINE_TEST_REDIS": "c",
        "HOME": "d",
    }

    assert load(path, environment) == Config()


def test_people_are_invited_and_mails_stay_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    none = load(tmp_path / "leadline.toml", {})
    sender = "Leadline <leadline@north.example>"
    text = f'[smtp]\nurl = "smtps://me:pass%40word@mail.example:465"\nfrom = "{sender}"\n[accounts]\nsign_up = "open"\n'
    (tmp_path / "leadline.toml").write_text(text)
    given = load(tmp_path / "leadline.toml", {"LEADLINE_SMTP__FROM": "me@north.example"})

    assert (none.accounts.sign_up, none.accounts.email_domains, none.smtp.url) == ("invite", (), None)
    assert load(tmp_path / "leadline.toml", {}).smtp.sender == sender
    assert (given.accounts.sign_up, given.smtp.sender) == ("open", "me@north.example")
