"""The Markdown of arXiv 2502.17403 for a MEDS subject, as known at a prediction time, and its ablations.

In order: a constant current time; age and sex; the latest values of 24 concepts with low, normal or high for adults;
past visits; events outside visits; then each visit, newest first, with its conditions, medications, procedures and
other events, each description once, and the last three values of every measurement. Of a running visit nothing shows
its end. An ablation leaves one of `PARTS` out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache, partial

from fhir_mapping.record import ADULT, CURRENT_TIME, LAST_VALUES, days_before, days_in_words, recent_values
from fhir_mapping.terminology import ConceptDefinition, definitions
from risk_model.research.meds_text import Subject, within_budget
from risk_model.research.meds_visits import SubjectEvent, Visit

PARTS = ("demographics", "recent", "visits", "conditions", "medications", "procedures", "values", "other")
_KINDS = {
    "conditions": ("Condition", ("ICD10CM", "ICD9CM", "ICD10", "SNOMED", "SNOMEDCT", "CONDITION", "DIAGNOSIS")),
    "medications": (
        "Medication",
        ("RXNORM", "DRUG", "MEDICATION", "MEDICATIONADMINISTRATION", "ADMINISTERED", "NDC", "ATC", "CVX", "INFUSION"),
    ),
    "procedures": ("Procedure", ("PROCEDURE", "ICD10PCS", "ICD9PROC", "CPT4", "CPT", "HCPCS")),
}  # fmt: skip
_KIND_OF = {head: part for part, (_, heads) in _KINDS.items() for head in heads}
_OF_VISITS = frozenset(
    {"ENCOUNTER", "VISIT", "ADMISSIONTYPE", "ADMISSIONSOURCE", "HOSPITALADMISSION", "HOSPITALDISCHARGE",
     "EDREGISTRATION", "EDOUT", "ICUADMISSION", "ICUDISCHARGE"}
)  # fmt: skip


def markdown(subject: Subject, at: datetime, budget: int, without: str | None = None) -> str:
    """Returns the text, at most `budget` tokens; the last lines are cut first."""
    return within_budget(_lines(subject, at, without), budget, repeated=True)


def _lines(subject: Subject, at: datetime, without: str | None) -> Iterator[str]:
    age, events = subject.age(at), list(subject.newest(at))
    yield from ("# Electronic Healthcare Record", "", f"Current time: {CURRENT_TIME}")
    if without != "demographics":
        yield from ("", "## Demographics")
        yield from (f"- Age: {'unknown' if age is None else int(age)}", f"- Sex: {subject.sex(at)}")
    if without != "recent":
        yield from recent_values(_concept_values(events, subject), adult=age is not None and age >= ADULT)
    visits = [visit for visit in reversed(subject.visits) if visit.start <= at]
    if without != "visits":
        yield from ("", "## Past visits")
        yield from [f"- {_described(visit, at)}" for visit in visits] or ["- No recent data"]
    by_visit = subject.by_visit(at)
    yield from ("", "## Events outside visits")
    yield from _listed(by_visit.get(None, []), subject, without) or ["- No recent data"]
    for visit in visits:
        if lines := _listed(by_visit.get(visit, []), subject, without):
            yield from ("", f"### {_described(visit, at)}", *lines)


def _described(visit: Visit, at: datetime) -> str:
    when = days_before(visit.start, at)
    if not visit.ended(at):
        return f"Current visit: {visit.kind}, begun {when}"
    assert visit.end is not None
    length = days_in_words((visit.end - visit.start).total_seconds() / 86_400)
    return f"{visit.kind.capitalize()}, {when}, duration {length}"


def _listed(events: list[SubjectEvent], subject: Subject, without: str | None) -> list[str]:
    """Returns the lines of one visit, by part, each description once, newest first."""
    lines: dict[str, dict[str, list[str]]] = {part: {} for part in (*_KINDS, "values", "other")}
    for event in events:
        head = _head(event.code)
        if head in _OF_VISITS:
            continue
        kind = _KIND_OF.get(head)
        part = kind or ("values" if event.number is not None else "other")
        values = lines[part].setdefault(subject.vocabulary.words(event.code), [])
        if part == "values" and len(values) < LAST_VALUES:
            values.append(f"{event.number:g}")
    return [
        f"- {_title(part)}{words}" + (f": {', '.join(values)}" if values else "")
        for part, found in lines.items()
        if part != without
        for words, values in found.items()
    ]


def _title(part: str) -> str:
    return f"{_KINDS[part][0]}: " if part in _KINDS else ""


@lru_cache(100_000)
def _head(code: str) -> str:
    """
    >>> _head("ICD10CM//I50"), _head("Visit/IP"), _head("INFUSION_START//225158")
    ('ICD10CM', 'VISIT', 'INFUSION')
    """
    head = _split(code)[0].upper()
    return "INFUSION" if head.startswith("INFUSION") else head.replace("_", "").replace("-", "")


def _concept_values(events: list[SubjectEvent], subject: Subject) -> dict[str, list[float]]:
    """Concept -> its values in canonical units, newest first. A number whose unit is not known is not compared with a
    range: it is listed with its visit only."""
    found: dict[str, list[float]] = {}
    for event in events:
        if event.number is None:
            continue
        concept, loinc, unit = _measured(event.code, subject.vocabulary.ancestors.get(event.code, ()))
        if concept is None or len(found.get(concept.name, ())) == LAST_VALUES:
            continue
        spelled = definitions().unit(event.unit or unit)
        value = None if spelled is None else concept.convert(event.number, spelled, loinc)
        if value is not None and concept.low <= value <= concept.high:
            found.setdefault(concept.name, []).append(value)
    return found


@lru_cache(100_000)
def _measured(code: str, parents: tuple[str, ...]) -> tuple[ConceptDefinition | None, str, str]:
    """Returns the concept that a code or one of its parents measures, if any, the LOINC code, and the unit in the code.

    >>> concept, loinc, unit = _measured("LAB//50983//mEq/L", ("LOINC/2951-2",))
    >>> concept.name, loinc, unit
    ('sodium', '2951-2', 'mEq/L')
    """
    unit = "/".join(_split(code)[2:])
    known = definitions()
    for each in (code, *parents):
        system, *rest = _split(each)
        within = {"LOINC": known.by_loinc, "RISKCARDS": known.concepts}.get(system.upper(), {})
        if rest and rest[0] in within:
            return within[rest[0]], rest[0], unit
    return None, "", ""


def _split(code: str) -> list[str]:
    return code.split("//" if "//" in code else "/")


def _without(part: str) -> Callable[[Subject, datetime, int], str]:
    return partial(markdown, without=part)


SERIALISERS: Mapping[str, Callable[[Subject, datetime, int], str]] = {
    "codes": Subject.codes,
    "markdown": markdown,
    **{f"markdown-without-{part}": _without(part) for part in PARTS},
}
"""How a record becomes text, by name; the names are options of the command line."""
