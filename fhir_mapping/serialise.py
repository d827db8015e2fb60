"""A record as text for an encoder (Markdown, code list) and as MEDS rows.

The two text forms follow "Large Language Models are Powerful EHR Encoders" (arXiv 2502.17403): a constant current time
(all dates become days before it), newest first, no end for a running visit, nothing after the prediction time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fhir_mapping.definitions import definitions
from fhir_mapping.values import Coding, Measurement, Stay, StayClass

if TYPE_CHECKING:
    from fhir_mapping.record import PatientRecord

CURRENT_TIME = "2024-01-01"
CHARACTERS_PER_TOKEN = 4
_BODY = ("weight", "height")
_LAST_VALUES = 3
_MEDS_SYSTEMS = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
}


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


def to_meds(record: PatientRecord) -> tuple[dict[str, Any], ...]:
    """MEDS data rows: static ones first (time None), then in time order. Codes are `VOCABULARY//code`."""
    rows: list[tuple[datetime | None, str, float | None, str | None]] = []
    if record.sex:
        rows.append((None, f"GENDER//{record.sex.upper()}", None, None))
    if (record.birth and record.birth.earliest == record.birth.latest) or (record.birth and _is_day(record)):
        rows.append((record.birth.earliest, "MEDS_BIRTH", None, None))
    if record.deceased:
        rows.append((record.deceased, "MEDS_DEATH", None, None))
    for stay in record.stays:
        rows.append((stay.start, f"ENCOUNTER//{stay.stay_class.upper()}//START", None, None))
        if stay.end is not None:
            rows.append((stay.end, f"ENCOUNTER//{stay.stay_class.upper()}//END", None, stay.discharge_disposition))
    concepts = definitions().concepts
    for item in record.measurements:
        code = concepts[item.concept].loinc
        name = f"LOINC//{code[0]}//{item.unit}" if code else f"RISKCARDS//{item.concept}//{item.unit}"
        rows.append((item.time, name, item.value, None))
    for condition in record.conditions:
        when = condition.recorded or condition.onset
        rows += [(when, name, None, condition.text) for name in _meds_codes(condition.codings, "CONDITION")]
    for medication in record.medications:
        rows += [(medication.start, name, None, medication.text) for name in _meds_codes(medication.codings, "DRUG")]
    for procedure in record.procedures:
        rows += [
            (procedure.performed, name, None, procedure.text) for name in _meds_codes(procedure.codings, "PROCEDURE")
        ]
    rows.sort(key=lambda row: (row[0] is not None, row[0] or _NEVER, row[1]))
    return tuple(
        {
            "subject_id": record.subject_id,
            "time": None if time is None else time.isoformat(),
            "code": code,
            "numeric_value": number,
            "text_value": text,
        }
        for time, code, number, text in rows
    )


def _is_day(record: PatientRecord) -> bool:
    return record.birth is not None and (record.birth.latest - record.birth.earliest).days < 1


def _meds_codes(codings: tuple[Coding, ...], kind: str) -> list[str]:
    names = [f"{_MEDS_SYSTEMS[c.system]}//{c.code}" for c in codings if c.system in _MEDS_SYSTEMS]
    return names or [f"{kind}//{c.code}" for c in codings] or [f"{kind}//UNCODED"]
