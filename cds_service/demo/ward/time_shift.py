"""Shifts a synthetic chart in time by a constant, and removes what is not known yet."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from fhir_mapping.core import parse_instant
from fhir_mapping.parsing import Resource
from fhir_mapping.record import known_resources
from fhir_mapping.resources import starts_stay

_FULL = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?)?\Z")
_PARTIAL = re.compile(r"\d{4}(-\d{2})?\Z")
_DATE_KEYS = re.compile(r"(date|Date|DateTime|start|end|issued|authoredOn|onset|recorded)\Z")
_IN_TEXT = re.compile(r"\b(19|20)\d{2}-\d{2}-\d{2}\b")
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"


def shift(resources: list[Resource], by: timedelta) -> list[Resource]:
    """Copies with every date moved by `by`: intervals stay, and so does the age at each of them.

    Partial dates (a year, a month) move to the year or month their middle falls in. Dates written out in plain-text
    notes move too.
    """
    return [_moved(resource, by, "") for resource in resources]


def _moved(value: Any, by: timedelta, key: str) -> Any:
    if isinstance(value, dict):
        moved = {name: _moved(item, by, name) for name, item in value.items()}
        return _moved_attachment(moved, by) if isinstance(moved.get("data"), str) else moved
    if isinstance(value, list):
        return [_moved(item, by, key) for item in value]
    if not isinstance(value, str):
        return value
    if _FULL.match(value):
        return move_text(value, by)
    if _PARTIAL.match(value) and _DATE_KEYS.search(key):
        return move_text(value, by)
    return _IN_TEXT.sub(lambda found: move_text(found.group(), by), value) if key in {"div", "text"} else value


def move_text(text: str, by: timedelta) -> str:
    """
    >>> move_text("2020-02-28", timedelta(days=2)), move_text("2020", timedelta(days=366))
    ('2020-03-01', '2021')
    >>> move_text("2020-01-01T00:30:00Z", timedelta(hours=-1))
    '2019-12-31T23:30:00+00:00'
    """
    instant = parse_instant(text)
    if instant is None:
        return text
    if "T" in text:
        return (datetime.fromisoformat(text) + by).isoformat()
    middle = instant.earliest + (instant.latest - instant.earliest) / 2 + by
    return middle.strftime("%Y-%m-%d")[: len(text)]


def _moved_attachment(attachment: dict[str, Any], by: timedelta) -> dict[str, Any]:
    if not str(attachment.get("contentType", "")).startswith("text/"):
        return attachment
    try:
        text = base64.b64decode(attachment["data"], validate=True).decode("utf-8")
    except ValueError:
        return attachment
    replace: Callable[[re.Match[str]], str] = lambda found: move_text(found.group(), by)  # noqa: E731
    data = base64.b64encode(_IN_TEXT.sub(replace, text).encode()).decode()
    # Size and hash belong to the old text.
    kept = {name: item for name, item in attachment.items() if name not in {"hash", "size"}}
    return {**kept, "data": data}


def visible_resources(resources: list[Resource], now: datetime) -> list[Resource]:
    """Returns the chart at `now`: without later resources; a running encounter has no end and no disposition."""
    kept = []
    for resource in known_resources(resources, now):
        if resource["resourceType"] != "Encounter":
            kept.append(_not_yet(resource, now))
        elif starts_stay(resource) is not None:
            kept.append(_running(resource, now))
    return kept


def _running(encounter: Resource, now: datetime) -> Resource:
    period = encounter.get("period") or {}
    end = parse_instant(period.get("end"))
    if end is None or end.earliest <= now:
        return encounter
    open_period = {name: item for name, item in period.items() if name != "end"}
    kept = {k: v for k, v in encounter.items() if k not in {"length", "hospitalization", "statusHistory"}}
    admission = {k: v for k, v in (encounter.get("hospitalization") or {}).items() if k != "dischargeDisposition"}
    if admission:
        kept["hospitalization"] = admission
    return {**kept, "status": "in-progress", "period": open_period}


def _not_yet(resource: Resource, now: datetime) -> Resource:
    """Removes future knowledge: a later death, a later resolved problem."""
    kept = dict(resource)
    for name in ("deceasedDateTime", "abatementDateTime"):
        happens = parse_instant(kept.get(name))
        if happens is None or happens.earliest <= now:
            continue
        del kept[name]
        if name == "abatementDateTime":
            kept["clinicalStatus"] = {"coding": [{"system": _CLINICAL, "code": "active"}]}
        else:
            kept.pop("active", None)
    return kept
