"""Equivalent charts give the same result: on the generated patients and the golden bundles.

A chart is changed in a way that means nothing (order, zone, unit, version of FHIR, form of reference, wrong entries
taken back); its features and notes must be those of the chart as it was. The conversion factors are written out here,
not taken from the definitions.
"""

from __future__ import annotations

import copy
import gzip
import random
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import ForeignPatientError, PatientRecord
from tests.end_to_end.golden import EXAMPLES
from tests.property.profiles import LONG, searching

Resource = dict[str, Any]
Bundle = dict[str, Any]
PATIENTS = EXAMPLES.parent / "cds_service" / "demo" / "patients"
GOLDEN = sorted(path.parent.name for path in EXAMPLES.glob("*/bundle.json") if "foreign" not in path.parent.name)
GENERATED = ("asthma", "embolism-icu", "trauma-icu", "sparse")
CHARTS = (*GOLDEN, *GENERATED)
SERVER = "https://ehr.example.org/fhir"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)\Z")
# LOINC -> (unit as charted, another unit, factor, offset)
UNITS = {
    "2160-0": ("mg/dL", "umol/L", 88.42, 0.0),
    "38483-4": ("mg/dL", "umol/L", 88.42, 0.0),
    "2345-7": ("mg/dL", "mmol/L", 1 / 18.016, 0.0),
    "2339-0": ("mg/dL", "mmol/L", 1 / 18.016, 0.0),
    "1975-2": ("mg/dL", "umol/L", 17.104, 0.0),
    "17861-6": ("mg/dL", "mmol/L", 1 / 4.008, 0.0),
    "2947-0": ("mmol/L", "meq/L", 1.0, 0.0),
    "2951-2": ("mmol/L", "meq/L", 1.0, 0.0),
    "6298-4": ("mmol/L", "meq/L", 1.0, 0.0),
    "2823-3": ("mmol/L", "meq/L", 1.0, 0.0),
    "718-7": ("g/dL", "g/L", 10.0, 0.0),
    "1751-7": ("g/dL", "g/L", 10.0, 0.0),
    "6690-2": ("10*3/uL", "/uL", 1000.0, 0.0),
    "777-3": ("10*3/uL", "10*9/L", 1.0, 0.0),
    "8310-5": ("Cel", "[degF]", 1.8, 32.0),
    "29463-7": ("kg", "[lb_av]", 2.204623, 0.0),
    "8302-2": ("cm", "[in_i]", 0.3937008, 0.0),
    "8480-6": ("mm[Hg]", "kPa", 0.1333224, 0.0),
    "8462-4": ("mm[Hg]", "kPa", 0.1333224, 0.0),
}


@cache
def chart(name: str) -> bytes:
    if name in GENERATED:
        raw = gzip.decompress((PATIENTS / f"{name}.json.gz").read_bytes())
    else:
        raw = (EXAMPLES / name / "bundle.json").read_bytes()
    bundle = orjson.loads(raw)
    for number, entry in enumerate(bundle["entry"]):  # a position is not an id
        entry["resource"].setdefault("id", f"given-{number}")
    return orjson.dumps(bundle)


@cache
def moments(name: str) -> tuple[datetime, ...]:
    """The latest time of the chart, and the middle of its last inpatient stay."""
    record = PatientRecord.from_json(chart(name))
    stays = [stay for stay in record.stays if stay.stay_class == "inpatient"]
    middle = [stay.start + ((stay.end or record.prediction_time) - stay.start) / 2 for stay in stays[-1:]]
    return (record.prediction_time, *middle)


Said = tuple[dict[str, tuple[Any, ...]], dict[str, str], list[dict[str, Any]]]


def said(bundle: Bundle | bytes, at: datetime) -> Said:
    record = PatientRecord.from_json(bundle if isinstance(bundle, bytes) else orjson.dumps(bundle), prediction_time=at)
    vector = record.features()
    values = {name: (found.value, found.unit, found.time) for name, found in vector.values.items()}
    return values, dict(vector.unknown), [note.to_json() for note in record.notes()]


@cache
def as_it_was(name: str, at: datetime) -> Said:
    return said(chart(name), at)


def resources(bundle: Bundle) -> list[Resource]:
    return [entry["resource"] for entry in bundle["entry"]]


def another_order(bundle: Bundle, chance: random.Random) -> None:
    chance.shuffle(bundle["entry"])


def duplicates(bundle: Bundle, chance: random.Random) -> None:
    entries = bundle["entry"]
    for entry in chance.choices(entries, k=len(entries) // 3 + 1):
        entries.insert(chance.randrange(len(entries) + 1), copy.deepcopy(entry))


def other_zones(bundle: Bundle, chance: random.Random) -> None:
    """Every time in another zone; dates stay unchanged."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if isinstance(value, str) and INSTANT.match(value):
            zone = timezone(timedelta(minutes=15 * chance.randint(-48, 56)))
            return datetime.fromisoformat(value).astimezone(zone).isoformat()
        return value

    for entry in bundle["entry"]:
        entry["resource"] = moved(entry["resource"])


def other_units(bundle: Bundle, chance: random.Random) -> None:
    for resource in resources(bundle):
        for part in (resource, *resource.get("component", ())) if resource["resourceType"] == "Observation" else ():
            codes = [coding.get("code") for coding in part.get("code", {}).get("coding", ())]
            quantity = part.get("valueQuantity", {})
            for unit, other, factor, offset in (UNITS[code] for code in codes if code in UNITS):
                if quantity.get("code") == unit and chance.random() < 0.7:
                    value = quantity["value"] * factor + offset
                    part["valueQuantity"] = quantity | {"value": value, "unit": other, "code": other}


def fifth_release(bundle: Bundle, _: random.Random) -> None:
    """Encounters, procedures, orders and documents in FHIR R5."""
    for resource in resources(bundle):
        change = _FIFTH.get(resource["resourceType"])
        if change is not None:
            change(resource)


def _encounter(encounter: Resource) -> None:
    moved = {"period": "actualPeriod", "hospitalization": "admission"}
    for old, new in moved.items():
        if old in encounter:
            encounter[new] = encounter.pop(old)
    encounter["class"] = [{"coding": [encounter["class"]]}]
    encounter["status"] = {"finished": "completed"}.get(encounter["status"], encounter["status"])
    values = [{"concept": concept} for concept in encounter.pop("reasonCode", ())]
    values += [{"reference": reference} for reference in encounter.pop("reasonReference", ())]
    if values:
        encounter["reason"] = [{"value": values}]
    if "serviceType" in encounter:
        encounter["serviceType"] = [{"concept": encounter["serviceType"]}]


def _procedure(procedure: Resource) -> None:
    for name in ("DateTime", "Period"):
        if f"performed{name}" in procedure:
            procedure[f"occurrence{name}"] = procedure.pop(f"performed{name}")


def _order(order: Resource) -> None:
    for name, part in (("medicationCodeableConcept", "concept"), ("medicationReference", "reference")):
        if name in order:
            order["medication"] = {part: order.pop(name)}


def _document(document: Resource) -> None:
    context = document.pop("context", None)
    if context:
        document |= {"context": context.get("encounter", [])} | {k: context[k] for k in ("period",) if k in context}


_FIFTH = {
    "Encounter": _encounter,
    "Procedure": _procedure,
    "MedicationRequest": _order,
    "MedicationAdministration": _order,
    "DocumentReference": _document,
}


def absolute_references(bundle: Bundle, chance: random.Random) -> None:
    """Every reference as an absolute URL on one server, some with a version."""
    homes: dict[str, str] = {}
    for entry in bundle["entry"]:
        resource = entry["resource"]
        key = f"{resource['resourceType']}/{resource['id']}"
        homes |= {key: f"{SERVER}/{key}", entry.get("fullUrl") or key: f"{SERVER}/{key}"}
        entry["fullUrl"] = f"{SERVER}/{key}"

    def pointed(value: Any) -> Any:
        if isinstance(value, list):
            return [pointed(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        found = {key: pointed(inner) for key, inner in value.items()}
        if isinstance(found.get("reference"), str) and found["reference"] in homes:
            found["reference"] = homes[found["reference"]] + chance.choice(["", "/_history/3"])
        return found

    for entry in bundle["entry"]:
        entry["resource"] = pointed(entry["resource"])


def wrong_entries(bundle: Bundle, chance: random.Random) -> None:
    """Retracted entries: copies with another value and `entered-in-error`."""
    for entry in list(bundle["entry"]):
        if chance.random() < 0.5:
            for wrong in _retracted(entry["resource"]):
                bundle["entry"].insert(chance.randrange(len(bundle["entry"]) + 1), {"resource": wrong})


def _retracted(resource: Resource) -> Iterator[Resource]:
    wrong = copy.deepcopy(resource) | {"id": f"{resource['id'][:50]}-wrong"}
    if resource["resourceType"] == "Condition":
        yield wrong | {"verificationStatus": {"coding": [{"code": "entered-in-error"}]}}
    elif resource["resourceType"] in _WITH_STATUS:
        if "valueQuantity" in wrong:
            wrong["valueQuantity"]["value"] = 1.5 * wrong["valueQuantity"].get("value", 1)
        yield wrong | {"status": "entered-in-error"}


_WITH_STATUS = frozenset(
    {"Observation", "Encounter", "Procedure", "MedicationRequest", "DocumentReference", "Composition"}
)
SAME: dict[str, Callable[[Bundle, random.Random], None]] = {
    change.__name__: change
    for change in (another_order, duplicates, other_zones, fifth_release, absolute_references, wrong_entries)
}
EXAMPLES_EACH = 40 if LONG else 4
few = settings(searching, max_examples=EXAMPLES_EACH)
SEEDS = st.integers(0, 2**32)


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("change", SAME)
@few
@given(seed=SEEDS)
def test_equivalent_charts_map_to_the_same_features(change: str, name: str, seed: int) -> None:
    chance = random.Random(seed)
    at = chance.choice(moments(name))
    bundle = orjson.loads(chart(name))
    SAME[change](bundle, chance)
    values, unknown, notes = said(bundle, at)
    before = as_it_was(name, at)
    assert values == before[0]
    assert notes == before[2]
    if change != "wrong_entries":  # the reason of an unknown feature may be a retracted entry
        assert unknown == before[1]


@pytest.mark.parametrize("name", CHARTS)
@few
@given(seed=SEEDS)
def test_several_equivalent_changes_together_change_nothing(name: str, seed: int) -> None:
    chance = random.Random(seed)
    at = chance.choice(moments(name))
    bundle = orjson.loads(chart(name))
    for change in ("fifth_release", "other_zones", "absolute_references", "duplicates", "another_order"):
        SAME[change](bundle, chance)
    assert said(bundle, at) == as_it_was(name, at)


@pytest.mark.parametrize("name", CHARTS)
@few
@given(seed=SEEDS)
def test_converted_units_give_the_same_values(name: str, seed: int) -> None:
    chance = random.Random(seed)
    at = chance.choice(moments(name))
    bundle = orjson.loads(chart(name))
    other_units(bundle, chance)
    values, unknown, notes = said(bundle, at)
    before = as_it_was(name, at)
    assert (values.keys(), unknown, notes) == (before[0].keys(), before[1], before[2])
    for feature, (value, unit, _) in values.items():
        expected = before[0][feature][0]
        assert unit == before[0][feature][1], feature
        assert value == expected or abs(value - expected) <= 1e-3 * max(abs(expected), 0.1), feature


FOREIGN: dict[str, Resource] = {
    "Observation": {"status": "final", "code": {"coding": [{"system": "http://loinc.org", "code": "2951-2"}]}},
    "Condition": {"code": {"text": "Sepsis"}},
    "Encounter": {"status": "finished", "class": {"code": "IMP"}, "period": {"start": "2020-01-01"}},
    "Procedure": {"status": "completed", "code": {"text": "X"}},
    "MedicationRequest": {"status": "active", "intent": "order", "medicationCodeableConcept": {"text": "X"}},
    "DocumentReference": {"status": "current", "content": []},
}


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_resource_of_another_patient_is_an_error_anywhere_in_a_chart(kind: str, name: str) -> None:
    bundle = orjson.loads(chart(name))
    foreign = {"resourceType": kind, "id": "foreign", "subject": {"reference": "Patient/somebody-else"}} | FOREIGN[kind]
    bundle["entry"].insert(random.Random(name + kind).randrange(len(bundle["entry"])), {"resource": foreign})
    with pytest.raises(ForeignPatientError):
        PatientRecord.from_json(orjson.dumps(bundle), prediction_time=moments(name)[0])
