"""What a value of a setting must be: its range and unit, and the checks of addresses, users and lists.

A field of `Settings` is written with `number` or `text`; `expected` puts the same definition into words, for the error
message and for the table of `docs/settings.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.fields import FieldInfo

USER_TYPES = ("Practitioner", "PractitionerRole", "Patient", "RelatedPerson")
"""The types of `context.userId` (CDS Hooks, "Hook context")."""
_USER = re.compile(rf"({'|'.join(USER_TYPES)})/[A-Za-z0-9\-.]{{1,64}}\Z")
_NAMES: dict[Any, str] = {float: "number", int: "whole number", bool: "true or false", str: "text"}


def number(
    default: float, low: float, high: float, about: str, *, unit: str = "", above: bool = False, zero: str = ""
) -> Any:
    """A number from `low` to `high`, or above `low`. `zero` says what 0 means; nan and infinity are refused."""
    least: dict[str, Any] = {"gt": low} if above else {"ge": low}
    extra: dict[str, Any] = {"unit": unit, "zero": zero}
    if isinstance(default, float):  # pydantic 2.9 does not take it for whole numbers
        least["allow_inf_nan"] = False
    return Field(default, le=high, description=about, json_schema_extra=extra, **least)


def text(default: Any, about: str, *, kind: str = "", shown: str = "") -> Any:
    """A text, a choice, a switch or a list of texts. `kind` says what it is, `shown` what the default means."""
    return Field(default, description=about, json_schema_extra={"kind": kind, "shown": shown})


def extra(field: FieldInfo, name: str) -> str:
    """What `number` or `text` was given under this name."""
    given = field.json_schema_extra
    return str(given.get(name, "")) if isinstance(given, dict) else ""


def is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def expected(field: FieldInfo) -> str:
    """The values a field takes, in words.

    >>> expected(FieldInfo.from_annotated_attribute(float, number(0.2, 0, 1, "", unit="probability", above=True)))
    'number, probability, above 0, at most 1'
    """
    choices = get_args(field.annotation) if not is_list(field) else ()
    if choices:
        return "one of " + ", ".join(map(str, choices))
    kind = extra(field, "kind") or ("comma-separated list" if is_list(field) else _NAMES[field.annotation])
    low = _limit(field, "gt")
    bounds = f"above {low:g}" if low is not None else ""
    low, high = _limit(field, "ge"), _limit(field, "le")
    if low is not None and high is not None:
        bounds = f"{low:.15g} to {high:.15g}"
    elif high is not None:
        bounds += f", at most {high:.15g}"
    return ", ".join(part for part in (kind, extra(field, "unit"), bounds) if part)


def _limit(field: FieldInfo, name: str) -> float | None:
    found = (getattr(item, name, None) for item in field.metadata)
    return next((value for value in found if value is not None), None)


def split(value: Any) -> Any:
    """The items of a comma-separated text, or of a list of texts; anything else as it came, to be refused.

    >>> split("a, b,"), split(["a ", ""]), split(3)
    (('a', 'b'), ('a',), 3)
    """
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        return value
    return tuple(item.strip() for item in items if item.strip())


def web_address(value: str) -> str:
    """An absolute http(s) URL with a host and without credentials, query and fragment. Raises ValueError."""
    parts = urlsplit(value)
    plain = not (parts.username or parts.password or parts.query or parts.fragment) and value.isprintable()
    if parts.scheme not in {"http", "https"} or not parts.hostname or not plain or " " in value or "\\" in value:
        raise ValueError("expected an absolute http(s) URL such as https://cds.example.org")
    assert parts.port is None or parts.port >= 0  # raises ValueError for a port that is no number
    if {"", ".", ".."} & set(parts.hostname.removesuffix(".").split(".")) or {".", ".."} & set(parts.path.split("/")):
        raise ValueError("expected a host and a path without empty parts and dot segments")
    return value


def origin(value: str) -> str:
    """`*`, or scheme, host and port without a path. Raises ValueError."""
    if value != "*" and (urlsplit(web_address(value)).path or "*" in value):
        raise ValueError("expected * or an origin without a path, such as https://ehr.example.org")
    return value


def user(value: str) -> str:
    """A reference such as Practitioner/17, as in `context.userId`. Raises ValueError."""
    if not _USER.match(value):
        raise ValueError(f"expected TYPE/ID such as Practitioner/17, with a type of {', '.join(USER_TYPES)}")
    return value


def each(check: Callable[[str], str], values: Iterable[str]) -> tuple[str, ...]:
    """The values, each checked. Raises ValueError that names the first that is refused."""
    checked = []
    for value in values:
        try:
            checked.append(check(value))
        except ValueError as error:
            raise ValueError(f"{value!r}: {error}") from None
    return tuple(checked)
