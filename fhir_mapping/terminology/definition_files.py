"""Reads YAML definition files safely; errors name the file and the field.

DefinitionError("site.yaml", "concepts.sodium.unit", "is missing")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

MAX_BYTES = 4 * 2**20
_TYPE_NAMES = {
    str: "text",
    list: "a list",
    dict: "a mapping",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}


class DefinitionError(ValueError):
    """A definitions or site map file is invalid; `file` and `field` are where."""

    def __init__(self, file: str, field: str, problem: str) -> None:
        super().__init__(f"{file}: {field}: {problem}" if field else f"{file}: {problem}")
        self.file = file
        self.field = field


@dataclass(frozen=True, slots=True)
class DefinitionField:
    """The schema of one field: its type, whether it is required, and its allowed values if there is a list of them."""

    name: str
    kind: type
    required: bool = True
    one_of: tuple[str, ...] = ()


def read_yaml(raw: bytes, file: str) -> Any:
    """Returns one YAML document of plain values. Raises DefinitionError with line and column.

    Anchors are refused: a few lines of aliases can expand to gigabytes.
    """
    if len(raw) > MAX_BYTES:
        raise DefinitionError(file, "", f"larger than {MAX_BYTES // 2**20} MiB")
    try:
        # Searches the bytes for an anchor first: scanning takes as long as loading.
        if b"&" in raw and any(isinstance(token, yaml.AnchorToken) for token in yaml.scan(raw, yaml.CSafeLoader)):
            raise DefinitionError(file, "", "YAML anchors are not allowed; write out the values")
        return yaml.load(raw, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise DefinitionError(file, where, f"not valid YAML: {getattr(error, 'problem', None) or error}") from None


def check_fields(value: Any, fields: Sequence[DefinitionField], file: str, place: str) -> None:
    """Raises DefinitionError unless `value` is a mapping with these fields, of these types, and no others.

    >>> check_fields({"unti": "g"}, [DefinitionField("unit", str)], "site.yaml", "concepts.x")
    Traceback (most recent call last):
    fhir_mapping.terminology.definition_files.DefinitionError: site.yaml: concepts.x.unti: unknown field; use unit
    """
    if not isinstance(value, dict):
        raise DefinitionError(file, place, "expected a mapping of fields")
    names = [field.name for field in fields]
    for name in value:
        if name not in names:
            raise DefinitionError(file, _at(place, name), f"unknown field; use {', '.join(names)}")
    for field in fields:
        if field.name not in value:
            if field.required:
                raise DefinitionError(file, _at(place, field.name), "is missing")
            continue
        found = value[field.name]
        if not _is(found, field.kind):
            raise DefinitionError(file, _at(place, field.name), f"expected {_TYPE_NAMES[field.kind]}")
        if field.one_of and found not in field.one_of:
            raise DefinitionError(file, _at(place, field.name), f"{found!r} is none of {', '.join(field.one_of)}")


def _at(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
