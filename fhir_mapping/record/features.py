"""Computes the `FeatureVector` of a record: `<concept>.<aggregate>`, with a suffix for the time window.

Aggregates: last, first, min, max, mean, slope (least squares, per hour), count. Without a suffix they cover the current
stay and the 24 hours before it, or the last 365 days if there is no stay; the windows of `concepts.yaml` (`_24h`,
`_48h`) are hours before the prediction time. A feature that cannot be computed is absent from `values`; the `.last` of
its concept is in `unknown` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from fhir_mapping.core.times import age_range
from fhir_mapping.core.values import (
    Condition,
    FeatureValue,
    FeatureVector,
    Measurement,
    Medication,
    Procedure,
    Refusal,
    Stay,
    StayClass,
    UndatedEncounter,
)
from fhir_mapping.record.drugs_in_use import DrugInUse, distinct, drugs_in_use
from fhir_mapping.record.problem_list import comorbidity_groups
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.resources.admissions import admission_source, disposition
from fhir_mapping.resources.clinical import NOT_IN_USE
from fhir_mapping.resources.stays import leads_to
from fhir_mapping.terminology.codes import SNOMED
from fhir_mapping.terminology.concepts import definitions
from fhir_mapping.terminology.diagnosis_tables import Scheme, scheme_groups
from fhir_mapping.terminology.drug_classes import Basis, classes_of, drug_class_table

BEFORE_STAY = timedelta(hours=24)
WITHOUT_STAY = timedelta(days=365)
# Limits of the age bands of all scores in use (adults, SAPS II, Charlson): an imprecise birth date gives an age only if
# it lies in one band.
AGE_BANDS = (16, 18, 40, 50, 60, 70, 75, 80)
OLDEST = 130
_VENTILATION = frozenset({"40617009", "243147009", "243141005"})
_MEDICATIONS = frozenset({"MedicationRequest", "MedicationStatement"})
_UNNAMED = frozenset({"medication-not-found", "no-code"})
_STAY_FACTS = (
    "length_of_stay", "hours_since_admission", "acute_admission", "intensive_care", "admission_source",
    "discharge_disposition",
)  # fmt: skip
_MAX_SOURCES = 5  # a mean over 400 values lists its newest sources, not all


def compute(record: RecordView) -> FeatureVector:
    """Returns all features of a record as of its prediction time; see `docs/features.md`."""
    values: dict[str, FeatureValue] = {}
    unknown: dict[str, str] = {}
    begin = _window_start(record)
    by_concept: dict[str, list[Measurement]] = {}
    for item in record.measurements:
        by_concept.setdefault(item.concept, []).append(item)
    reasons = _refusal_reasons(record.refused)
    if not record.measurements and any(refusal.reason == "code-not-mapped" for refusal in record.refused):
        # With local codes only, it is unknown what was measured: that is not "none found".
        reasons = dict.fromkeys(definitions().concepts, "code-not-mapped") | reasons
    for concept in definitions().concepts.values():
        found = by_concept.get(concept.name, [])
        inside = [item for item in found if item.time >= begin]
        if inside:
            values.update(_aggregates(concept.name, inside, record.prediction_time))
        else:
            unknown[f"{concept.name}.last"] = _why_unknown(record, found, reasons.get(concept.name), "Observation")
    for name, value, reason in _facts(record, reasons):
        if value is None:
            unknown[name] = reason
        else:
            values[name] = value
    return FeatureVector(record.subject_id, record.prediction_time, values, unknown, record.refused)


def _window_start(record: RecordView) -> datetime:
    stay = record.current_stay
    return record.prediction_time - WITHOUT_STAY if stay is None else stay.start - BEFORE_STAY


def _refusal_reasons(refused: Sequence[Refusal]) -> dict[str, str]:
    """Returns one refusal reason for each concept (named by `detail`), whatever the order of entries."""
    ordered = sorted((r for r in refused if r.detail), key=lambda r: (r.source, r.reason))
    return {str(refusal.detail): refusal.reason for refusal in ordered}


def _why_unknown(record: RecordView, found: Sequence[Measurement], refusal: str | None, resource_type: str) -> str:
    if found:
        return "outside-window"
    if refusal is not None:
        return refusal
    return "not-fetched" if resource_type in record.not_fetched else "none-found"


def _aggregates(name: str, items: Sequence[Measurement], until: datetime) -> Iterator[tuple[str, FeatureValue]]:
    yield from _window(name, items, "")
    for suffix, hours in definitions().windows.items():
        since = until - timedelta(hours=hours)
        inside = [item for item in items if item.time >= since]
        if inside:
            yield from _window(name, inside, f"_{suffix}")


def _window(name: str, items: Sequence[Measurement], suffix: str) -> Iterator[tuple[str, FeatureValue]]:
    """Yields the aggregates of one concept in one window; `items` are in time order and not empty."""
    unit, newest, oldest = items[-1].unit, items[-1], items[0]
    numbers = [item.value for item in items]
    low, high = min(items, key=lambda item: item.value), max(items, key=lambda item: item.value)
    for aggregate, item in (("last", newest), ("first", oldest), ("min", low), ("max", high)):
        yield f"{name}.{aggregate}{suffix}", FeatureValue(item.value, unit, item.time, (item.source,))
    sources = tuple(dict.fromkeys(item.source for item in items[-_MAX_SOURCES:]))
    mean = sum(numbers) / len(numbers)
    yield f"{name}.mean{suffix}", FeatureValue(round(mean, 6), unit, newest.time, sources)
    yield f"{name}.count{suffix}", FeatureValue(float(len(items)), "1", newest.time, sources)
    slope = slope_per_hour(items)
    if slope is not None:
        yield f"{name}.slope{suffix}", FeatureValue(round(slope, 6), f"{unit}/h", newest.time, sources)


def slope_per_hour(items: Sequence[Measurement]) -> float | None:
    """Returns the least-squares slope in units per hour; None if all values have the same time."""
    hours = [(item.time - items[0].time).total_seconds() / 3600 for item in items]
    mean_time = sum(hours) / len(hours)
    spread = sum((hour - mean_time) ** 2 for hour in hours)
    if spread == 0:
        return None
    mean_value = sum(item.value for item in items) / len(items)
    return sum((h - mean_time) * (i.value - mean_value) for h, i in zip(hours, items, strict=True)) / spread


Fact = tuple[str, FeatureValue | None, str]
Counted = Stay | UndatedEncounter | Condition | Medication | Procedure | DrugInUse | Refusal
Ordered = TypeVar("Ordered", Condition, Medication)


def _facts(record: RecordView, reasons: Mapping[str, str]) -> Iterator[Fact]:
    """Yields features of demographics, the current stay and use of care: (name, value or None, reason if None)."""
    patient = (f"Patient/{record.subject_id}",)
    yield from _age(record)
    sex = None if record.sex is None else FeatureValue(record.sex, None, None, patient)
    yield "sex.last", sex, record.demographics.unknown.get("sex", "none-found")
    found = record.consciousness
    avpu = None if found is None else FeatureValue(found[0], None, found[1], (found[2],))
    yield "consciousness.last", avpu, _why_unknown(record, (), reasons.get("consciousness"), "Observation")
    yield _ventilation(record)
    yield from _stay_facts(record)
    yield from _use_of_care(record)
    yield from _comorbidities(record)
    yield from _drug_classes(record)


def _age(record: RecordView) -> Iterator[Fact]:
    """Yields the lowest and highest age the birth date allows, and as `age.last` the lowest if both are in one band."""
    at, patient = record.prediction_time, (f"Patient/{record.subject_id}",)
    reason = record.demographics.unknown.get("birth", "none-found")
    ages = None if record.birth is None else age_range(record.birth, at)
    if record.birth is not None and (ages is None or ages[1] > OLDEST):
        reason, ages = "implausible", None
    if ages is None:
        yield "age.last", None, reason
        return
    yield "age.min", _number(ages[0], "a", at, patient), ""
    yield "age.max", _number(ages[1], "a", at, patient), ""
    crossed = any(ages[0] < band <= ages[1] for band in AGE_BANDS)
    yield "age.last", None if crossed else _number(ages[0], "a", at, patient), "imprecise"


def _ventilation(record: RecordView) -> Fact:
    """Returns 1 if ventilation is coded in this stay; 0 only if procedures were fetched and none is ventilation."""
    name, stay = "mechanical_ventilation.last", record.current_stay
    if stay is None:
        return name, None, record.no_stay
    during = _procedures_of(record, stay)
    found = [p for p in during if any(c.system == SNOMED and c.code in _VENTILATION for c in p.codings)]
    if found:
        return name, FeatureValue(1.0, "1", found[-1].performed, tuple(p.source for p in found[-1:])), ""
    known = "Procedure" not in record.not_fetched
    return name, FeatureValue(0.0, "1", record.prediction_time, ()) if known else None, "not-fetched"


def _stay_facts(record: RecordView) -> Iterator[Fact]:
    stay, at = record.current_stay, record.prediction_time
    if stay is None:
        for name in _STAY_FACTS:
            yield f"{name}.last", None, record.no_stay
        return
    source = (stay.source,)
    yield from _range("length_of_stay", stay.days_between(at), "d", at, source, stay.length_unknown or "")
    yield from _range("hours_since_admission", stay.hours_between(at), "h", at, source, "")
    for name, flag in (("acute_admission", stay.acute), ("intensive_care", stay.intensive_care)):
        reason = stay.unknown.get(name) or "not-coded"
        yield f"{name}.last", _number(None if flag is None else float(flag), "1", stay.start, source), reason
    origin, destination = admission_source(stay), disposition(stay)
    reason = stay.unknown.get("admission_source") or "not-coded"
    yield "admission_source.last", None if origin is None else FeatureValue(origin, None, stay.start, source), reason
    reason = "not-yet" if stay.running else stay.unknown.get("discharge_disposition") or "code-not-understood"
    yield (
        "discharge_disposition.last",
        None if destination is None else FeatureValue(destination, None, stay.end, source),
        reason,
    )


def _range(
    name: str, bounds: tuple[float, float] | None, unit: str, at: datetime, sources: tuple[str, ...], reason: str
) -> Iterator[Fact]:
    """Yields a number as `.last`, or, where only bounds are known, as `.min` and `.max`."""
    if bounds is None or bounds[0] == bounds[1]:
        yield f"{name}.last", _number(None if bounds is None else bounds[0], unit, at, sources), reason
        return
    yield f"{name}.last", None, "imprecise"
    yield f"{name}.min", _number(bounds[0], unit, at, sources), ""
    yield f"{name}.max", _number(bounds[1], unit, at, sources), ""


def _comorbidities(record: RecordView) -> Iterator[Fact]:
    """Yields 1 for each Charlson and Elixhauser group of the patient; 0 only if every condition is understood."""
    for scheme in (Scheme.CHARLSON, Scheme.ELIXHAUSER):
        found = comorbidity_groups(record, scheme)
        for group in scheme_groups(scheme):
            sources = found.sources.get(group.name, ())
            known = bool(sources) or found.unknown == 0
            value = _number(float(bool(sources)) if known else None, "1", record.prediction_time, sources)
            yield f"comorbidity_{scheme}_{group.slug}.last", value, found.reason


def _drug_classes(record: RecordView) -> Iterator[Fact]:
    """Yields 1 for each class of the drugs in use; 0 only if medications were fetched and all are classifiable.

    A drug of which only today's status is known makes its classes unknown.
    """
    read = [(drug, classes_of(drug.codings, drug.text)) for drug in drugs_in_use(record)]
    unnamed = _unnamed_drugs(record)
    perhaps = [classes_of(item.codings, item.text) for item in record.medications if item.active is None]
    fetched = not record.not_fetched & _MEDICATIONS
    complete = fetched and not unnamed and all(found is not None for _, found in read)
    unclear = {name for found in perhaps for name in (drug_class_table() if found is None else found)}
    for name, drug_class in drug_class_table().items():
        bases = {
            drug.source: found[name]
            for drug, found in read
            if found is not None and name in found and (drug.continues or not drug_class.continuous)
        }
        if not bases:
            nothing = FeatureValue(0.0, "1", record.prediction_time, ()) if complete and name not in unclear else None
            reason = "not-fetched" if not fetched else "status-of-later" if complete else "code-not-mapped"
            reason = unnamed[0].reason if fetched and unnamed else reason
            yield f"medication_{name}.last", nothing, reason
            continue
        basis = None if Basis.CODE in bases.values() else str(Basis.NAME)
        yield f"medication_{name}.last", FeatureValue(1.0, "1", record.prediction_time, tuple(bases), basis), ""


def _unnamed_drugs(record: RecordView) -> list[Refusal]:
    """Returns the orders and statements that are, or may be, in use and do not name their drug."""
    return [
        refusal
        for refusal in record.refused
        if refusal.reason in _UNNAMED
        and refusal.source.partition("/")[0] in _MEDICATIONS
        and refusal.detail != NOT_IN_USE
    ]


def _use_of_care(record: RecordView) -> Iterator[Fact]:
    at = record.prediction_time
    encounters_known = "Encounter" not in record.not_fetched
    now = record.current_stay
    # The emergency visit that led to the stay belongs to it; LACE counts the visits before that one.
    before = [s for s in record.stays if now is None or (s.source != now.source and not _led_to(s, now))]
    counts: Mapping[str, tuple[StayClass, int]] = {
        "inpatient_stay.count_180d": (StayClass.INPATIENT, 180),
        "inpatient_stay.count_365d": (StayClass.INPATIENT, 365),
        "emergency_visit.count_180d": (StayClass.EMERGENCY, 180),
        "emergency_visit.count_365d": (StayClass.EMERGENCY, 365),
        "outpatient_visit.count_365d": (StayClass.OUTPATIENT, 365),
    }
    anchor = at if record.current_stay is None else record.current_stay.start
    for name, (kind, days) in counts.items():
        since = anchor - timedelta(days=days)
        inside = [s for s in before if since <= s.start <= anchor]
        found = [s for s in inside if s.stay_class is kind]
        perhaps = [s for s in inside if s.class_unknown]
        undated = [item for item in record.undated_encounters if item.may_be(kind)]
        missing = "" if encounters_known else "not-fetched"
        yield from _counted(
            name, found, [*perhaps, *undated], at, missing, "class-not-understood" if perhaps else "no-start"
        )
    known = "" if "Condition" not in record.not_fetched else "not-fetched"
    yield from _counted("condition.count", *_active(record.conditions), at, known, "status-of-later")
    known = "not-fetched" if record.not_fetched & _MEDICATIONS else ""
    in_use = distinct(drugs_in_use(record))
    named = {drug.text.casefold() for drug in in_use}
    unclear = [drug for drug in _active(record.medications)[1] if drug.text.casefold() not in named]
    unnamed = _unnamed_drugs(record)
    reason = "status-of-later" if unclear else "medication-not-found"
    yield from _counted("medication.count", in_use, [*unclear, *unnamed], at, known, reason)
    fetched = "Procedure" not in record.not_fetched
    year = [p for p in record.procedures if p.performed and p.performed >= at - timedelta(days=365)]
    yield "procedure.count_365d", _count(year, at) if fetched else None, "not-fetched"
    if record.current_stay is None:
        yield "procedure.count", None, record.no_stay
    else:
        during = _procedures_of(record, record.current_stay)
        yield "procedure.count", _count(during, at) if fetched else None, "not-fetched"


def _counted(
    name: str, found: Sequence[Counted], perhaps: Sequence[Counted], at: datetime, missing: str, reason: str
) -> Iterator[Fact]:
    """Yields a count, or, where it is unknown whether some items count, its bounds: `x.min_365d`, `x.max_365d`."""
    if missing or not perhaps:
        yield name, None if missing else _count(found, at), missing
        return
    yield name, None, reason
    yield name.replace(".count", ".min"), _count(found, at), ""
    yield name.replace(".count", ".max"), _count([*found, *perhaps], at), ""


def _active(
    items: Iterable[Condition | Medication],
) -> tuple[list[Condition | Medication], list[Condition | Medication]]:
    """Returns the items active at the prediction time, each text once, and those that may have been."""
    listed = list(items)
    active = {item.text.casefold(): item for item in listed if item.active}
    perhaps = {item.text.casefold(): item for item in listed if item.active is None}
    return list(active.values()), [item for text, item in perhaps.items() if text not in active]


def _procedures_of(record: RecordView, stay: Stay) -> list[Procedure]:
    """Returns the procedures since the stay began, without those of other visits in person."""
    return [
        p for p in record.procedures if p.performed and p.performed >= stay.start and p.stay not in record.elsewhere
    ]


def _led_to(visit: Stay, stay: Stay) -> bool:
    return visit.stay_class is StayClass.EMERGENCY and leads_to(visit, stay)


def _count(items: Iterable[Counted], at: datetime) -> FeatureValue:
    sources = tuple(item.source for item in items)
    return FeatureValue(float(len(sources)), "1", at, sources)


def _number(value: float | None, unit: str, at: datetime, sources: tuple[str, ...]) -> FeatureValue | None:
    return None if value is None else FeatureValue(round(value, 4), unit, at, sources)
