"""What is wrong with the file, in words of its own rather than the library's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from evidence_service.renewal_settings.tables import Document

SHOWN = 100
"""So much of a name that is no good is repeated."""


class MemberProblem(ValueError):  # noqa: N818 - becomes a SettingsError that also names the file
    """What is wrong with which member of which table."""

    def __init__(self, table: str, member: str, text: str) -> None:
        """`table` as people find it in the file, such as `[[fas_servers]] fas1,`."""
        super().__init__(f"{table} {member}: {text}")


def lines(error: ValidationError, content: Mapping[str, Any]) -> Iterator[str]:
    """Table, member and what is wrong, of each fault."""
    for each in error.errors(include_url=False, include_input=False):
        location = list(each["loc"])
        message = _fault(each["type"], each.get("ctx", {}), location) or each["msg"].removeprefix("Value error, ")
        yield f"{_place(location, content)}: {message}" if location else message


_KINDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "a text",
    "tuple_type": "a list",
}


def _fault(kind: str, context: Mapping[str, Any], location: Sequence[int | str]) -> str | None:
    """What is wrong, in words of this file rather than the library's; None where the message is our own."""
    bounds = {
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "too_long": f"holds too many entries; at most {context.get('max_length')}",
        "too_short": f"needs at least {context.get('min_length')}",
    }
    if kind in bounds:
        return bounds[kind]
    if kind in _KINDS:
        field = _fields_at(location[:-1]).get(str(location[-1]))
        is_listed = kind == "tuple_type" and field is not None and _table_in(field.annotation) is not None
        if kind == "tuple_type":
            how = f"; write [[{location[-1]}]] above each entry" if is_listed else ', such as ["one", "two"]'
            return f"expected {_KINDS[kind]}{how}"
        return f"expected {_KINDS[kind]}"
    if kind in ("enum", "literal_error"):
        return f"expected {str(context['expected']).replace(chr(39), chr(34))}"
    field = _fields_at(location[:-1]).get(str(location[-1])) if location else None
    if kind == "missing":
        choices = get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()
        expected = " or ".join(f'"{each}"' for each in choices)
        return f"is missing; give {expected or 'it'}"
    if kind == "extra_forbidden":
        known = _fields_at(location[:-1])
        near = get_close_matches(str(location[-1]), known, n=1)
        guess = f"; do you mean {near[0]}?" if near else ";"
        return f"there is no such member{guess} docs/renewal-settings.md lists all"
    return None


def _fields_at(location: Sequence[int | str]) -> dict[str, FieldInfo]:
    """The members of the table at this place, by the names that they have in the file."""
    table: type[BaseModel] | None = Document
    for each in location:
        if table is not None and isinstance(each, str):
            field = _named(table).get(each)
            table = None if field is None else _table_in(field.annotation)
    return {} if table is None else _named(table)


def _named(table: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in table.model_fields.items()}


def _table_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type as it is written
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _table_in(each)) is not None), None)


def _place(location: Sequence[int | str], content: Mapping[str, Any]) -> str:
    """`[[fas_servers]] fas1, renewal.lead`; a server without a usable name is told by its number."""
    table, *rest = location
    if rest and isinstance(rest[0], int):
        entry = content[str(table)][rest[0]]
        name = entry.get("name", entry.get("certificate_authority")) if isinstance(entry, dict) else None
        is_shown = isinstance(name, str) and name and name.isprintable()
        shown = str(name)[:SHOWN] if is_shown else f"number {rest[0] + 1}"
        return f"[[{table}]] {shown}" + (f", {_members(rest[1:])}" if rest[1:] else "")
    return f"[{table}]" + (f" {_members(rest)}" if rest else "")


def _members(location: Sequence[int | str]) -> str:
    """`renewal.windows, entry 1`."""
    *names, last = location
    if isinstance(last, int):
        return f"{'.'.join(map(str, names))}, entry {last + 1}"
    return ".".join(map(str, location))
