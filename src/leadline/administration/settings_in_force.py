"""The settings that hold now, and where each comes from. Secrets are never among them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from leadline.administration.instance import Instance
from leadline.config import Config, EngineSection, ModelSection

DEFAULT = "default"
_SECRETS = ("api_key", "secret_key", "webhook_secret", "token")
_HIDDEN = "set, not shown"


@dataclass(frozen=True, slots=True)
class Setting:
    """`source` is a file's name, an environment variable, or DEFAULT."""

    name: str
    value: str
    source: str

    @property
    def is_default(self) -> bool:
        return self.source == DEFAULT


def settings_in_force(instance: Instance) -> list[Setting]:
    """As the server read them when it started."""
    return settings_of(instance.config, instance.origins)


def settings_of(config: Config, found: Mapping[str, str]) -> list[Setting]:
    """Those of a configuration; `found` is where they come from."""
    settings: list[Setting] = []
    for section in msgspec.structs.fields(config):
        value = getattr(config, section.name)
        if isinstance(value, tuple):
            settings += _listed(section.encode_name, value, found)
        else:
            settings += _of(section.encode_name, value, found)
    return settings


@dataclass(frozen=True, slots=True)
class Valued:
    """A setting for programs: a plain JSON value. What is secret in it is not there."""

    name: str
    value: Any
    source: str


def each_value(
    config: Config, found: Mapping[str, str], listed: tuple[tuple[EngineSection, ...], tuple[ModelSection, ...]]
) -> list[Valued]:
    """As `settings_of`, with each setting of the engines and models `listed` by itself: `models.NAME.aliases`."""
    values: list[Valued] = []
    for field in msgspec.structs.fields(config):
        section = getattr(config, field.name)
        if isinstance(section, msgspec.Struct):
            values += _valued(field.encode_name, section, lambda name: found.get(name, DEFAULT))
    for table, sections in (("engines", listed[0]), ("models", listed[1])):
        source = found.get(table, DEFAULT)
        for one in sections:
            values += _valued(f"{table}.{one.name}", one, lambda _, source=source: source)  # type: ignore[misc]
    return values


def _valued(table: str, section: msgspec.Struct, source: Callable[[str], str]) -> Iterator[Valued]:
    for field in msgspec.structs.fields(section):
        name, value = f"{table}.{field.encode_name}", getattr(section, field.name)
        if isinstance(value, msgspec.Struct):
            yield from _valued(name, value, source)
        else:
            told = shown(field.name, value) if isinstance(value, str) and value else msgspec.to_builtins(value)
            yield Valued(name, told, source(name))


def _of(table: str, section: Any, found: Mapping[str, str]) -> list[Setting]:
    settings: list[Setting] = []
    for field in msgspec.structs.fields(section):
        name, value = f"{table}.{field.encode_name}", getattr(section, field.name)
        if isinstance(value, msgspec.Struct):
            settings += _of(name, value, found)
        else:
            settings.append(Setting(name, shown(field.name, value), found.get(name, DEFAULT)))
    return settings


def _listed(table: str, sections: tuple[Any, ...], found: Mapping[str, str]) -> list[Setting]:
    """One line for each engine or model: what it says besides defaults."""
    if not sections:
        return [Setting(table, "none: the default one", DEFAULT)]
    source = found.get(table, DEFAULT)
    return [Setting(f"{table}.{section.name}", "; ".join(_said(section)), source) for section in sections]


def _said(section: msgspec.Struct) -> list[str]:
    told = []
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if field.name == "name" or value == field.default:
            continue
        inner = f"({', '.join(_said(value))})" if isinstance(value, msgspec.Struct) else shown(field.name, value)
        told.append(f"{field.encode_name} {inner}")
    return told


def shown(name: str, value: Any) -> str:
    """A value for people, without what is secret in it."""
    match value:
        case None | () | "":
            return "none"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(str, value))
        case str() if name in _SECRETS:
            return _HIDDEN
        case str() if name in ("url", "api_base", "endpoint", "public_url"):
            return _without_password(value)
        case _:
            return str(value)


def _without_password(text: str) -> str:
    try:
        url = urlsplit(text)
        if url.username is None and url.password is None and "password" not in url.query:
            return text
        where = f"{url.hostname}:{url.port}" if url.port else f"{url.hostname}"
    except ValueError:
        return _HIDDEN
    return f"{url.scheme}://…@{where}{url.path}"
