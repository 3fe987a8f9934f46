"""Types of the API's description as people read them: a table of fields, and names that lead to other tables."""

from collections.abc import Mapping
from html import escape
from typing import Any

Json = dict[str, Any]
_REFERENCE = "#/components/schemas/"
_PLAIN = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "object": "object",
    "null": "null",
    "array": "list",
}


class Schemas:
    """All types by name. What is named while one is told is noted in `used`, in that order."""

    def __init__(self, schemas: Mapping[str, Json]) -> None:
        self._schemas = schemas

    def fields(self, schema: Json, used: dict[str, None]) -> Mapping[str, Any]:
        """A type as a table: its name, what it is for, and its fields."""
        name = str(schema.get("$ref", "")).removeprefix(_REFERENCE)
        return self._table(name, self._schemas.get(name, schema), used)

    def closure(self, used: dict[str, None]) -> list[Mapping[str, Any]]:
        """The tables of the types that are named, and of those that these name."""
        done: dict[str, Mapping[str, Any]] = {}
        waiting = list(used)
        while waiting:
            name = waiting.pop(0)
            if name not in done:
                more: dict[str, None] = {}
                done[name] = self._table(name, self._schemas[name], more)
                waiting += more
        return list(done.values())

    def _table(self, name: str, schema: Json, used: dict[str, None]) -> Mapping[str, Any]:
        required = schema.get("required", ())
        rows = [
            {
                "name": field,
                "type": self.type_html(told, used),
                "required": field in required,
                "description": told.get("description", ""),
            }
            for field, told in schema.get("properties", {}).items()
        ]
        return {
            "name": _short(name),
            "anchor": _anchor(name),
            "description": schema.get("description", ""),
            "rows": rows,
            "is": "" if rows else self.type_html(schema, used),
        }

    def type_html(self, schema: Json, used: dict[str, None]) -> str:
        """In words, such as `list of Message`."""
        if "$ref" in schema:
            name = str(schema["$ref"]).removeprefix(_REFERENCE)
            used.setdefault(name)
            return f'<a href="#{_anchor(name)}">{escape(_short(name))}</a>'
        if "anyOf" in schema:
            parts = [self.type_html(one, used) for one in schema["anyOf"] if one.get("type") != "null"]
            return " or ".join(dict.fromkeys(parts))
        if "enum" in schema:
            return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"] if value is not None)
        if schema.get("type") == "array":
            of = self.type_html(schema["items"], used) if schema.get("items") else ""
            return f"list of {of}" if of else "list"
        return _PLAIN.get(schema.get("type", ""), "any JSON") + escape(_range(schema))


def _range(schema: Json) -> str:
    if "minimum" in schema and "maximum" in schema and abs(schema["maximum"]) < 2**31 - 1:
        return f", {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        return f" of up to {schema['maxLength']:,} characters"
    return ""


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _anchor(name: str) -> str:
    return "type-" + name.replace(".", "-")
