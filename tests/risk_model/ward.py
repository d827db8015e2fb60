"""A small hospital drawn from a known truth, as FHIR: to build cohorts, train, evaluate and score on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

Resource = dict[str, Any]
START = datetime(2022, 1, 3, 8, tzinfo=UTC)
_V3 = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_LOINC = {"sodium": ("2951-2", "mmol/L"), "hemoglobin": ("718-7", "g/dL"), "creatinine": ("2160-0", "mg/dL")}
_DIAGNOSES = (("I50.9", 0.3), ("E11.9", 0.35), ("J44.9", 0.2), ("N18.4", 0.15), ("I10", 0.5))


def ward(patients: int = 400, seed: int = 5, *, shift: float = 0.0) -> list[list[Resource]]:
    """Charts of `patients`; earlier stays, age and heart failure make a return more likely. `shift` moves the rate."""
    generator = np.random.default_rng(seed)
    return [_chart(f"p{seed}-{n:04d}", generator, shift) for n in range(patients)]


def write(folder: Path, charts: list[list[Resource]]) -> Path:
    """As Bulk Data: one file for each type."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {}
    for resource in (resource for chart in charts for resource in chart):
        lines.setdefault(resource["resourceType"], []).append(json.dumps(resource))
    for kind, found in lines.items():
        (folder / f"{kind}.ndjson").write_text("\n".join(found) + "\n", "utf-8")
    return folder


def _chart(name: str, generator: np.random.Generator, shift: float) -> list[Resource]:
    age, length = generator.uniform(40, 92), float(generator.integers(2, 12))
    begin = START + timedelta(days=float(generator.integers(0, 300)))
    ill = [code for code, share in _DIAGNOSES if generator.random() < share]
    earlier = int(generator.poisson(0.8))
    logit = -2.2 + shift + 0.9 * earlier + (age - 66) / 25 + 0.8 * ("I50.9" in ill)
    returns = generator.random() < 1 / (1 + np.exp(-logit))
    born = (begin - timedelta(days=365.25 * age)).date().isoformat()
    sex = "female" if generator.random() < 0.5 else "male"
    chart: list[Resource] = [{"resourceType": "Patient", "id": name, "birthDate": born, "gender": sex}]
    chart[0]["extension"] = [_race("Black or African American" if generator.random() < 0.3 else "White")]
    chart += [_stay(name, f"e{n}", begin - timedelta(days=60.0 * (n + 1)), 3) for n in range(earlier)]
    chart.append(_stay(name, "a", begin, length))
    chart += [_condition(name, number, code, begin) for number, code in enumerate(ill)]
    for concept, middle, spread in (("sodium", 138, 4), ("hemoglobin", 12, 2), ("creatinine", 1.3, 0.4)):
        for day in range(0, int(length), 2):
            if generator.random() < 0.9:
                value = max(0.3, float(generator.normal(middle, spread)))
                chart.append(_lab(name, concept, begin + timedelta(days=day, hours=1), value))
    if generator.random() < 0.7:
        chart.append(_note(name, begin + timedelta(hours=4), "heart failure" if "I50.9" in ill else "pneumonia"))
    if returns:
        chart.append(_stay(name, "b", begin + timedelta(days=length + float(generator.integers(2, 28))), 4))
    chart.append(_stay(name, "later", begin + timedelta(days=500), 0.02, "AMB"))
    return chart


def _stay(name: str, key: str, begin: datetime, days: float, kind: str = "IMP") -> Resource:
    end = begin + timedelta(days=days)
    home = {"system": "http://terminology.hl7.org/CodeSystem/discharge-disposition", "code": "home"}
    return {
        "resourceType": "Encounter",
        "id": f"{name}-{key}",
        "status": "finished",
        "class": {"system": _V3, "code": kind},
        "subject": {"reference": f"Patient/{name}"},
        "period": {"start": begin.isoformat(), "end": end.isoformat()},
        "hospitalization": {"dischargeDisposition": {"coding": [home]}},
    }


def _condition(name: str, number: int, code: str, begin: datetime) -> Resource:
    return {
        "resourceType": "Condition",
        "id": f"{name}-c{number}",
        "clinicalStatus": {"coding": [{"code": "active"}]},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]},
        "subject": {"reference": f"Patient/{name}"},
        "recordedDate": begin.isoformat(),
    }


def _lab(name: str, concept: str, at: datetime, value: float) -> Resource:
    code, unit = _LOINC[concept]
    return {
        "resourceType": "Observation",
        "id": f"{name}-{concept}-{at:%j%H}",
        "status": "final",
        "category": [{"coding": [{"code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{name}"},
        "effectiveDateTime": at.isoformat(),
        "valueQuantity": {"value": round(value, 1), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
    }


def _note(name: str, at: datetime, problem: str) -> Resource:
    import base64

    text = f"Assessment: {problem}, improving under treatment. No chest pain."
    return {
        "resourceType": "DocumentReference",
        "id": f"{name}-note",
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "11506-3"}]},
        "subject": {"reference": f"Patient/{name}"},
        "date": at.isoformat(),
        "content": [{"attachment": {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}}],
    }


def _race(words: str) -> Resource:
    return {
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [{"url": "text", "valueString": words}],
    }
