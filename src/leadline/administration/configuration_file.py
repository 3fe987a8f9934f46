"""Edits leadline.toml: comments and order stay, and nothing is written with which a server would not start."""

import json
import os
import tempfile
from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from leadline.administration.models import DEFAULT_ENGINE, DEFAULT_MODEL, sections
from leadline.catalog.catalog import Names, with_seed_aliases
from leadline.config import (
    Config,
    ConfigurationError,
    EngineSection,
    ModelSection,
    PriceSection,
    parse,
    read_toml,
    value_of,
)
from leadline.errors import InvalidRequest
from leadline.images.hosts import PrivateHosts

_LISTS = ("engines", "models")
_FORM = "leadline.toml has a form that cannot be edited here. Change it by hand."
# In a server two commands may edit at once; without one the folder has a lock.
_editing = Lock()

Document = MutableMapping[str, Any]
# Changes a document of tomlkit's and a plain one alike; the second argument makes values for it, of TOML or a text.
Change = Callable[[Document, Callable[[str], Any]], None]


def edit(data: Path, change: Change | None, before: Callable[[str], str] = lambda text: text) -> None:
    """Change the folder's file, all at once or not at all: InvalidRequest where it would be no good. `before` may add
    to the text before it is changed; a `change` of None adds only."""
    with _editing:
        file = (data / "leadline.toml").resolve()
        text = before(read(data))
        changed = text if change is None else _changed(text, change)
        try:
            check(parse(changed, file.name))
        except ConfigurationError as error:
            raise InvalidRequest(f"Nothing was changed, since then this would be wrong: {error}") from None
        _replace(file, changed)


def read(data: Path) -> str:
    """The text of the folder's file; none: an empty one."""
    try:
        return (data / "leadline.toml").read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"leadline.toml is not valid TOML: {error}") from None


def check(config: Config) -> None:
    """ConfigurationError where a server would not start with it, as far as that depends on the file alone."""
    _, models = sections(config)
    Names(with_seed_aliases(models))
    PrivateHosts.of(config.images.allow_private_hosts)


def setting(key: str, value: str) -> Change:
    """Sets a key, such as `smtp.url`, `limits.default.requests_per_minute` or `models.NAME.context_tokens`."""

    def change(document: Document, make: Callable[[str], Any]) -> None:
        *way, last = steps(document, key)
        place: Any = document
        for step in way:
            if isinstance(place, MutableMapping) and step not in place:
                place[step] = {}
            place = place[step]
            if not isinstance(place, MutableMapping | list):
                raise InvalidRequest(f"{key!r} reaches into {step!r}, which is not a section.", "key")
        if isinstance(place.get(last), MutableMapping) or (last in _LISTS and not way):
            raise InvalidRequest(f"{key!r} is a section. Name one of its settings.", "key")
        place[last] = make(value)

    return change


def steps(document: Document, key: str) -> list[Any]:
    """The way to a setting. One of several engines or models is named, and a name may have dots in it."""
    table, _, rest = key.partition(".")
    if table not in _LISTS or not rest:
        return key.split(".")
    names = [(one.get("name", ""), index) for index, one in enumerate(document.get(table, ()))]
    for name, index in sorted(names, key=lambda pair: -len(pair[0])):
        if rest.startswith(f"{name}."):
            return [table, index, *rest[len(name) + 1 :].split(".")]
    known = ", ".join(str(name) for name, _ in names) or "none"
    raise InvalidRequest(
        f"{key!r} names none of the file's {table}, which are: {known}. Write {table}.NAME.KEY.", "key"
    )


def with_default_model(text: str) -> str:
    """The text, with the default model in it where it names no model, so that it can be changed."""
    return text if read_toml(text, "leadline.toml").get("models") else _with(text, _model_lines(DEFAULT_MODEL))


def with_served(text: str, engine: EngineSection | None, model: ModelSection) -> str:
    """The text with a model, and with its engine where that is a new one. The default ones are written out where it
    names none, since they run only as long as it does not."""
    text = with_default_model(text)
    if engine is not None and not read_toml(text, "leadline.toml").get("engines"):
        text = _with(text, _engine_lines(DEFAULT_ENGINE))
    if engine is not None:
        text = _with(text, _engine_lines(engine))
    return _with(text, _model_lines(model))


def without(table: str, names: Collection[str]) -> Change:
    """Takes the engines or models of these names out."""

    def change(document: Document, _: Callable[[str], Any]) -> None:
        places = document.get(table, ())
        for index in reversed(range(len(places))):
            if places[index].get("name") in names:
                del places[index]
        if table in document and not places:
            del document[table]

    return change


def _with(text: str, lines: list[str]) -> str:
    """With a section at the end. ConfigurationError where the text has the table in another form."""
    space = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    longer = text + space + "\n".join([*lines, ""])
    try:
        read_toml(longer, "leadline.toml")
    except ConfigurationError:
        raise ConfigurationError(_FORM) from None
    return longer


def _engine_lines(engine: EngineSection) -> list[str]:
    lines = ["[[engines]]", f"name = {_text(engine.name)}", f"kind = {_text(engine.kind)}"]
    lines += [f"weights = {_text(engine.weights)}"] if engine.weights is not None else []
    return [*lines, 'load = "demand"'] if engine.load == "demand" else lines


def _model_lines(model: ModelSection) -> list[str]:
    lines = ["[[models]]", f"name = {_text(model.name)}", f"engine = {_text(model.engine)}"]
    lines += [f"aliases = [{', '.join(map(_text, model.aliases))}]"] if model.aliases else []
    lines += [f"default_max_output_tokens = {model.default_max_output_tokens}"]
    named = {kind: getattr(model.prices, kind) for kind in ("input", "cached_input", "image", "output")}
    prices = ", ".join(f"{kind} = {price:f}" for kind, price in named.items() if price is not None)
    return [*lines, f"prices = {{ {prices} }}"] if model.prices != PriceSection() else lines


def _text(text: str) -> str:
    """A text of TOML."""
    return json.dumps(text, ensure_ascii=False)


def _changed(text: str, change: Change) -> str:
    """The text after a change that a reader of TOML finds in it, and nothing else."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    wanted = read_toml(text, "leadline.toml")
    change(wanted, value_of)
    with suppress(ConfigurationError, TOMLKitError):
        document = tomlkit.parse(text)
        change(document, _item)
        changed = tomlkit.dumps(document)
        if read_toml(changed, "leadline.toml") == wanted:
            return changed
    raise ConfigurationError(_FORM)


def _item(text: str) -> Any:
    """A value as it was written where it is TOML, else a text."""
    import tomlkit

    return tomlkit.string(text) if value_of(text) == text else tomlkit.value(text.strip())


def _replace(file: Path, text: str) -> None:
    """The file, whole and on the disk, with the rights that it had; a new one is its owner's alone."""
    descriptor, name = tempfile.mkstemp(prefix=".leadline-", suffix=".toml", dir=file.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as writing:
            writing.write(text.encode())
            writing.flush()
            if file.exists():
                os.fchmod(descriptor, file.stat().st_mode & 0o777)
            os.fsync(descriptor)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
