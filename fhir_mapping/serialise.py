"""A record as text for an encoder: Markdown, and a list of codes.

Both follow "Large Language Models are Powerful EHR Encoders" (arXiv 2502.17403): a constant current time
(all dates become days before it), newest first, no end for a running visit, nothing after the prediction time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from fhir_mapping.definitions import definitions
from fhir_mapping.values import Measurement, Stay, StayClass

if TYPE_CHECKING:
    from fhir_mapping.record import PatientRecord

CURRENT_TIME = "2024-01-01"
CHARACTERS_PER_TOKEN = 4
_BODY = ("weight", "height")
_LAST_VALUES = 3


def to_markdown(record: PatientRecord, budget: int) -> str:
    """The paper's first serialisation, cut to `budget` tokens at a line border."""
    return _within("\n".join(_markdown(record)), budget)


def _markdown(record: PatientRecord) -> Iterator[str]:
    age = record.features().number("age.last")
    yield "# Electronic Healthcare Record"
    yield ""
    yield f"Current time: {CURRENT_TIME}"
    yield ""
    yield "## Demographics"
    yield f"- Age: {'unknown' if age is None else int(age)}"
    yield f"- Sex: {record.sex or 'unknown'}"
    for title, names in _groups():
        yield ""
        yield f"## {title}"
        yield from (_latest_values(record, name) for name in names)
    stays = list(reversed(record.stays))
    yield ""
    yield "## Past visits"
    yield from (f"- {_visit(stay, record.prediction_time)}" for stay in stays) if stays else iter(["- No recent data"])
    yield ""
    yield "## Events outside visits"
    yield from _events(record, None) or ["- No recent data"]
    for stay in stays:
        events = _events(record, stay)
        if events:
            yield ""
            yield f"### {_visit(stay, record.prediction_time)}"
            yield from events


def _groups() -> Iterator[tuple[str, list[str]]]:
    concepts = definitions().concepts.values()
    yield "Recent body metrics", list(_BODY)
    yield (
        "Recent vital signs",
        [c.name for c in concepts if c.group == "vital sign" and c.name not in _BODY and c.loinc],
    )
    yield "Recent lab results", [c.name for c in concepts if c.group == "laboratory"]


def _latest_values(record: PatientRecord, name: str) -> str:
    concept = definitions().concepts[name]
    values = [item for item in record.measurements if item.concept == name][-_LAST_VALUES:]
    shown = ", ".join(f"{item.value:g}" for item in reversed(values)) or "No recent data"
    return f"- {concept.label} ({concept.unit}): {shown}"


def _visit(stay: Stay, at: datetime) -> str:
    when = _days_before(stay.start, at)
    kind = f"{stay.stay_class} visit" if stay.stay_class is not StayClass.INPATIENT else "inpatient stay"
    reason = f" for {', '.join(stay.reason_texts)}" if stay.reason_texts else ""
    if stay.running:
        return f"Current visit: {kind}{reason}, begun {when}"
    length = stay.days_until(at)
    duration = "unknown" if length is None else _days(length)
    return f"{kind.capitalize()}{reason}, {when}, duration {duration}"


def _days_before(moment: datetime | None, at: datetime) -> str:
    if moment is None:
        return "time unknown"
    return f"{_days((at - moment).total_seconds() / 86_400)} before prediction time"


def _days(number: float) -> str:
    whole = int(number)
    return "less than a day" if whole < 1 else "1 day" if whole == 1 else f"{whole} days"


def _events(record: PatientRecord, stay: Stay | None) -> list[str]:
    """Conditions, medications and procedures of one visit (or of none), each description once."""
    known = {stay.source for stay in record.stays}

    def here(source: str | None) -> bool:
        return source == stay.source if stay is not None else source not in known

    lines = [f"- Condition: {c.text}" for c in record.conditions if here(c.stay)]
    lines += [f"- Medication: {m.text}" for m in record.medications if here(m.stay)]
    lines += [f"- Procedure: {p.text}" for p in record.procedures if here(p.stay)]
    return list(dict.fromkeys(lines))


def to_codes(record: PatientRecord, budget: int) -> str:
    """The paper's final serialisation: a flat list of descriptions, newest first, each once."""
    dated: list[tuple[datetime, str]] = []
    dated += [(c.recorded or c.onset or _NEVER, c.text) for c in record.conditions]
    dated += [(m.start or _NEVER, m.text) for m in record.medications]
    dated += [(p.performed or _NEVER, p.text) for p in record.procedures]
    dated += [(m.time, _measured(m)) for m in record.measurements]
    dated += [(s.start, f"{s.stay_class} visit") for s in record.stays]
    dated.sort(key=lambda item: (item[0] is not _NEVER, item[0]), reverse=True)
    return _within("\n".join(dict.fromkeys(text for _, text in dated)), budget)


_NEVER = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


def _measured(item: Measurement) -> str:
    return definitions().concepts[item.concept].label


def _within(text: str, budget: int) -> str:
    limit = budget * CHARACTERS_PER_TOKEN
    if len(text) <= limit:
        return text
    return text[:limit].rsplit("\n", 1)[0] if "\n" in text[:limit] else text[:limit]
