"""Edits leadline.toml: comments and order stay, and nothing is written with which a server would not start."""

import os
import tempfile
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from leadline.administration.models import DEFAULT_MODEL, sections
from leadline.catalog.catalog import Names, with_seed_aliases
from leadline.config import Config, ConfigurationError, parse, read_toml, value_of
from leadline.errors import InvalidRequest
from leadline.images.hosts import PrivateHosts

_LISTS = ("engines", "models")
# In a server two commands may edit at once; without one the folder has a lock.
_editing = Lock()

Document = MutableMapping[str, Any]
# Changes a document of tomlkit's and a plain one alike; the second argument makes values for it, of TOML or a text.
Change = Callable[[Document, Callable[[str], Any]], None]


def edit(data: Path, change: Change, before: Callable[[str], str] = lambda text: text) -> None:
    """Change the folder's file, all at once or not at all: InvalidRequest where it would be no good. `before` may add
    to the text before it is changed."""
    with _editing:
        file = (data / "leadline.toml").resolve()
        text = before(read(data))
        changed = _changed(text, change)
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
    if read_toml(text, "leadline.toml").get("models"):
        return text
    model, prices = DEFAULT_MODEL, DEFAULT_MODEL.prices
    space = "" if not text else "\n" if text.endswith("\n") else "\n\n"
    return (
        f'{text}{space}[[models]]\nname = "{model.name}"\nengine = "{model.engine}"\n'
        f"default_max_output_tokens = {model.default_max_output_tokens}\n"
        f"prices = {{ input = {prices.input}, cached_input = {prices.cached_input}, output = {prices.output} }}\n"
    )


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
    raise ConfigurationError("leadline.toml has a form that cannot be edited here. Change it by hand.")


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
