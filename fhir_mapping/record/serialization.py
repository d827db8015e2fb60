"""Serialises a record as text for an encoder: Markdown, or a list of code descriptions.

Both follow "Large Language Models are Powerful EHR Encoders" (arXiv 2502.17403): a constant current time (all dates
become days before it), newest first, no end for a running visit, nothing after the prediction time. The length limit is
in tokens by the caller's counter; by default a token is four characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from fhir_mapping.core.values import Measurement, Stay, StayClass
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.terminology.concepts import definitions

CURRENT_TIME = "2024-01-01"
CHARACTERS_PER_TOKEN = 4
LAST_VALUES = 3
ADULT = 18.0
# The 24 concepts of the paper, of which 22 are measured and two are computed from weight and height. Its erythrocytes,
# which are not mapped, are replaced by lactate. Adult reference ranges in canonical units; None: no low/high flag.
BODY_METRICS: dict[str, tuple[float, float] | None] = {"weight": None, "height": None}
VITAL_SIGNS: dict[str, tuple[float, float] | None] = {
    "heart_rate": (60.0, 100.0),
    "systolic_bp": (90.0, 140.0),
    "diastolic_bp": (60.0, 90.0),
    "temperature": (36.0, 38.0),
    "respiratory_rate": (12.0, 20.0),
    "spo2": (95.0, 100.0),
}
LAB_RESULTS: dict[str, tuple[float, float] | None] = {
    "hemoglobin": (12.0, 17.5),
    "hematocrit": (36.0, 51.0),
    "wbc": (4.0, 11.0),
    "platelets": (150.0, 400.0),
    "sodium": (135.0, 145.0),
    "potassium": (3.5, 5.1),
    "chloride": (98.0, 107.0),
    "bicarbonate": (22.0, 29.0),
    "calcium": (8.6, 10.3),
    "glucose": (70.0, 140.0),
    "bun": (7.0, 20.0),
    "creatinine": (0.6, 1.3),
    "anion_gap": (4.0, 12.0),
    "lactate": (0.5, 2.0),
}
Counter = Callable[[str], int]
Range = tuple[float, float] | None


def tokens(text: str) -> int:
    """Returns the estimated number of tokens without a tokenizer: one per four characters, rounded up.

    >>> tokens(""), tokens("pulse"), tokens("rate")
    (0, 2, 1)
    """
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def to_markdown(record: RecordView, budget: int, count: Counter = tokens) -> str:
    """Returns the paper's first serialisation, at most `budget` tokens by `count`; the last lines are cut first."""
    return _within(list(_markdown(record)), budget, count)


def _markdown(record: RecordView) -> Iterator[str]:
    age = record.features().number("age.last")
    yield "# Electronic Healthcare Record"
    yield ""
    yield f"Current time: {CURRENT_TIME}"
    yield ""
    yield "## Demographics"
    yield f"- Age: {'unknown' if age is None else int(age)}"
    yield f"- Sex: {record.sex or 'unknown'}"
    adult = age is not None and age >= ADULT
    values: dict[str, list[float]] = {}
    for item in reversed(record.measurements):
        values.setdefault(item.concept, []).append(item.value)
    yield from recent_values(values, adult=adult)
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


def recent_values(values: Mapping[str, Sequence[float]], *, adult: bool) -> Iterator[str]:
    """Yields the sections of recent values: concept -> values in canonical units, newest first; the latest three count.

    Only for adults is a value marked as low, normal or high.
    """
    for title, concepts in (("body metrics", BODY_METRICS), ("vital signs", VITAL_SIGNS), ("lab results", LAB_RESULTS)):
        yield ""
        yield f"## Recent {title}"
        for name, normal in concepts.items():
            concept = definitions().concepts[name]
            found = [_with_flag(value, normal if adult else None) for value in values.get(name, ())[:LAST_VALUES]]
            yield f"- {concept.label} ({concept.unit}): {', '.join(found) or 'No recent data'}"
        if concepts is BODY_METRICS:
            yield from _body_measures({name: values[name][0] for name in concepts if values.get(name)}, adult=adult)


def _newest(items: Sequence[Measurement]) -> list[Measurement]:
    return list(reversed(items[-LAST_VALUES:]))


def _with_flag(value: float, normal: Range) -> str:
    if normal is None:
        return f"{value:g}"
    return f"{value:g} ({'low' if value < normal[0] else 'high' if value > normal[1] else 'normal'})"


def _body_measures(latest: Mapping[str, float], *, adult: bool) -> Iterator[str]:
    """Yields body mass index, and body surface area after Mosteller (NEJM 1987), from the latest weight and height."""
    mass = area = "No recent data"
    if "weight" in latest and "height" in latest:
        weight, metres = latest["weight"], latest["height"] / 100
        mass = _with_flag(round(weight / metres**2, 1), (18.5, 25.0) if adult else None)
        area = f"{math.sqrt(weight * metres / 36):.2f}"
    yield f"- Body mass index (kg/m2): {mass}"
    yield f"- Body surface area (m2): {area}"


def _visit(stay: Stay, at: datetime) -> str:
    when = days_before(stay.start, at)
    kind = f"{stay.stay_class} visit" if stay.stay_class is not StayClass.INPATIENT else "inpatient stay"
    reason = f" for {', '.join(stay.reason_texts)}" if stay.reason_texts else ""
    if stay.running:
        return f"Current visit: {kind}{reason}, begun {when}"
    length = stay.days_until(at)
    duration = "unknown" if length is None else days_in_words(length)
    return f"{kind.capitalize()}{reason}, {when}, duration {duration}"


def days_before(moment: datetime | None, at: datetime) -> str:
    if moment is None:
        return "time unknown"
    return f"{days_in_words((at - moment).total_seconds() / 86_400)} before prediction time"


def days_in_words(number: float) -> str:
    whole = int(number)
    return "less than a day" if whole < 1 else "1 day" if whole == 1 else f"{whole} days"


def _events(record: RecordView, stay: Stay | None) -> list[str]:
    """Returns the events of one visit (or outside visits), each description once, with the last three values."""
    known = {stay.source for stay in record.stays}

    def belongs(source: str | None) -> bool:
        return source == stay.source if stay is not None else source not in known

    lines = [f"- Condition: {c.text}" for c in record.conditions if belongs(c.stay)]
    lines += [f"- Medication: {m.text}" for m in record.medications if belongs(m.stay)]
    lines += [f"- Procedure: {p.text}" for p in record.procedures if belongs(p.stay)]
    if stay is not None:
        lines += _values_during(record, stay)
    return list(dict.fromkeys(lines))


def _values_during(record: RecordView, stay: Stay) -> Iterator[str]:
    end = stay.end if stay.end is not None else record.prediction_time if stay.running else stay.start
    during: dict[str, list[Measurement]] = {}
    for item in record.measurements:
        if stay.start <= item.time <= end:
            during.setdefault(item.concept, []).append(item)
    for name, items in during.items():
        concept = definitions().concepts[name]
        yield f"- {concept.label} ({concept.unit}): {', '.join(f'{item.value:g}' for item in _newest(items))}"


def to_codes(record: RecordView, budget: int, count: Counter = tokens) -> str:
    """Returns the paper's final serialisation: descriptions, newest first, each once, at most `budget` tokens."""
    dated: list[tuple[datetime, str]] = []
    dated += [(c.recorded or c.onset or _NEVER, c.text) for c in record.conditions]
    dated += [(m.start or _NEVER, m.text) for m in record.medications]
    dated += [(p.performed or _NEVER, p.text) for p in record.procedures]
    dated += [(m.time, _measured(m)) for m in record.measurements]
    dated += [(s.start, f"{s.stay_class} visit") for s in record.stays]
    dated.sort(reverse=True)  # undated ones last; sorted by text too, so that the input order does not matter
    return _within(dict.fromkeys(text for _, text in dated), budget, count)


_NEVER = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


def _measured(item: Measurement) -> str:
    return definitions().concepts[item.concept].label


def _within(lines: Iterable[str], budget: int, count: Counter) -> str:
    """Returns as many whole lines from the start as fit, or, if not even one does, as many characters of it."""
    listed = list(lines)
    whole = "\n".join(listed)
    if count(whole) <= budget:
        return whole
    kept = _largest(len(listed), lambda number: count("\n".join(listed[:number])) <= budget)
    if kept:
        return "\n".join(listed[:kept])
    return whole[: _largest(len(listed[0]), lambda number: count(whole[:number]) <= budget)]


def _largest(limit: int, fits: Callable[[int], bool]) -> int:
    """Returns the greatest number up to `limit` that fits, given that every smaller one fits too.

    >>> _largest(10, lambda number: number * 3 <= 20)
    6
    """
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
