"""Faults of settings in words: the variable, its value, and what is expected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import get_args

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from cds_service.config.values import USER_TYPES, expected, is_list

PREFIX = "RISKCARDS_"
# A fault in one of these is reported without the value, which may have a password.
_SECRET = frozenset({"database_url"})


def described(fault: ErrorDetails, fields: Mapping[str, FieldInfo]) -> str:
    """One fault of pydantic in our words: the variable, its value, and what is expected."""
    if not fault["loc"]:
        return str(fault["ctx"]["error"])
    name = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return unknown(f"{PREFIX}{name.upper()}", fields)
    value = "the value" if name in _SECRET else repr(fault["input"])
    field = fields[name]
    if fault["type"] == "value_error" and not isinstance(fault["input"], bool):
        return f"{PREFIX}{name.upper()}: {value}: {fault['ctx']['error']}"
    close = difflib.get_close_matches(str(fault["input"]), _choices(field), n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{PREFIX}{name.upper()}: {value}; expected {expected(field)}{hint}"


def _choices(field: FieldInfo) -> tuple[str, ...]:
    if is_list(field):
        return USER_TYPES if "Practitioner" in expected(field) else ()
    return tuple(map(str, get_args(field.annotation)))


def unknown(name: str, fields: Mapping[str, FieldInfo]) -> str:
    """The message about a name that is no setting, with the most similar one."""
    known = [f"{PREFIX}{each.upper()}" for each in fields]
    close = difflib.get_close_matches(name.upper(), known, n=1)
    return f"unknown setting {name}" + (f"; did you mean {close[0]}?" if close else "")
