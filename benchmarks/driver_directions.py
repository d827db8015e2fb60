"""Counts contributions against physiology: every patient of CinC 2012 set A, the shipped mortality model.

    python -m benchmarks.driver_directions --data DATA [--model FOLDER] [--limit STAYS] --out FILE

For each stay at 24 and at 48 hours every contribution of the estimate is checked, shown as a driver or not:

- `lowers_though_abnormal`: a concept with a value outside its normal range has a negative contribution;
- `moves_though_normal`: a concept whose known values are all normal has a contribution;
- `wrong_word`: a driver's `abnormal` is not where its own number lies;
- `not_exact`: contributions and reference miss the log-odds of the estimate by more than 0.001.

The normal ranges checked against are `risk_model/tables/normal_ranges.yaml`, and, so that the table does not vouch for
itself, the points of NEWS2 and SAPS II: a vital sign or laboratory value that gives points there never lowers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import cache
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks import cinc_fhir
from benchmarks.outcome import collect
from fhir_mapping import PatientRecord
from risk_model import Abnormality, RiskEstimate, RiskModel
from risk_model.features.encoding import scale_of
from risk_model.features.inputs import concept_of
from risk_model.features.normal_ranges import as_measured, normal_range
from risk_model.models.estimator import shipped_folder
from risk_model.scores.critical_care import saps_coma, sofa_bilirubin, sofa_creatinine, sofa_platelets
from risk_model.scores.items import steps

HOURS = (24, 48)
EXACT = 1e-3
# Points of a value in NEWS2 (vital signs), SOFA and SAPS II: another's word for abnormal.
POINTS = {
    "respiratory_rate": lambda v: steps(v, (8, 3), (11, 1), (20, 0), (24, 2), otherwise=3),
    "heart_rate": lambda v: steps(v, (40, 3), (50, 1), (90, 0), (110, 1), (130, 2), otherwise=3),
    "systolic_bp": lambda v: steps(v, (90, 3), (100, 2), (110, 1), (219, 0), otherwise=3),
    "temperature": lambda v: steps(v, (35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), otherwise=2),
    "spo2": lambda v: steps(v, (91, 3), (93, 2), (95, 1), otherwise=0),
    "gcs": saps_coma,
    "bilirubin": sofa_bilirubin,
    "creatinine": sofa_creatinine,
    "platelets": sofa_platelets,
}
MODEL: list[Path] = []


@cache
def opened(folder: Path) -> RiskModel:
    return RiskModel.open(folder)


def contradictions(model: RiskModel, record: PatientRecord) -> tuple[Counter[str], RiskEstimate]:
    """Counts of one patient, with `contributions` and `estimates` as denominators."""
    estimate = model.estimate(record)
    found: Counter[str] = Counter()
    if estimate.probability is None or estimate.reference is None:
        found["abstentions"] += 1
        return found, estimate
    found["estimates"] += 1
    values = dict(zip(model.names, estimate.inputs, strict=True))
    for concept, contribution in estimate.contributions:
        found["contributions"] += 1
        places = list(_places(record, concept, values))
        abnormal = any(place is not Abnormality.NORMAL for place in places)
        points = POINTS.get(concept, lambda _: 0)
        scored = any(points(v) > 0 for n, v in values.items() if n in {f"{concept}.last", f"{concept}.min"})
        found["lowers_though_abnormal"] += contribution < 0 and (abnormal or scored)
        found["moves_though_normal"] += bool(places) and not abnormal
    for driver in estimate.drivers:
        scale = scale_of(f"{driver.concept}.last")
        normal = None if scale is None else normal_range(scale, record.sex, record.features().number("age.last"))
        if normal is not None and driver.number is not None:
            found["wrong_word"] += normal.of(driver.number) is not driver.abnormal
    whole = log(estimate.reference / (1 - estimate.reference)) + sum(part for _, part in estimate.contributions)
    found["not_exact"] += abs(whole - log(estimate.probability / (1 - estimate.probability))) > EXACT
    return found, estimate


def _places(record: PatientRecord, concept: str, values: Mapping[str, float]) -> Iterator[Abnormality]:
    age = record.features().number("age.last")
    for name, value in values.items():
        scale = scale_of(name) if concept_of(name) == concept else None
        normal = None if scale is None else normal_range(scale, record.sex, age)
        if normal is not None and np.isfinite(value):
            yield normal.of(float(as_measured(np.array(value))))


def of_stay(stay: cinc_fhir.IcuStay) -> Counter[str]:
    resources = cinc_fhir.to_fhir(stay)
    found: Counter[str] = Counter(stays=1)
    for hours in HOURS:
        at = cinc_fhir.ADMISSION + timedelta(hours=hours)
        found += contradictions(opened(MODEL[0]), PatientRecord.from_resources(resources, prediction_time=at))[0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=shipped_folder("in_hospital_mortality"))
    parser.add_argument("--limit", type=int, help="only the first so many stays")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    MODEL.append(options.model)
    stays = list(cinc_fhir.read_stays(options.data))[: options.limit]
    total: Counter[str] = Counter()
    for counts in collect(stays, of_stay, "stays"):
        total += counts
    kinds = ("lowers_though_abnormal", "moves_though_normal", "wrong_word", "not_exact")
    model = opened(options.model).manifest
    document: dict[str, Any] = {
        "model": {"id": model["model_id"], "version": model["version"]},
        **{name: total[name] for name in ("stays", "estimates", "abstentions", "contributions", *kinds)},
    }
    options.out.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(", ".join(f"{name} {document[name]}" for name in ("stays", "estimates", *kinds)))


if __name__ == "__main__":
    main()
