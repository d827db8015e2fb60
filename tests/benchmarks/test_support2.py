"""SUPPORT through FHIR: what may not be known on the third day reaches no record."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from benchmarks import support2_fhir
from fhir_mapping import PatientRecord

HEAD = (
    "sno,age,death,sex,hospdead,slos,d.time,dzgroup,dzclass,num.co,edu,income,scoma,charges,totcst,totmcst,avtisst,race,"
    "sps,aps,surv2m,surv6m,hday,diabetes,dementia,ca,prg2m,prg6m,dnr,dnrday,meanbp,wblc,hrt,resp,temp,pafi,alb,bili,crea,"
    "sod,ph,glucose,bun,urine,adlp,adls,sfdm2,adlsc"
)
LATER = (
    "aps", "sps", "surv2m", "surv6m", "prg2m", "prg6m", "dnr", "dnrday", "charges", "totcst", "totmcst", "avtisst",
    "sfdm2", "d.time", "death", "race", "income", "edu", "adlp", "adls", "adlsc", "hospdead", "slos",
)  # fmt: skip
ROW = (
    "7,71.5,1,female,1,12,12,COPD,COPD/CHF/Cirrhosis,3,11,$11-$25k,44,9715,,,7,white,33.8,62,.26,.03,5,1,0,yes,.5,.25,"
    "no dnr,5,64,17.1,121,31,38.4,98,2.1,,2.2,132,7.25,,61,410,7,5,<2 mo. follow-up,6.5"
)


def row(**changes: str) -> dict[str, str]:
    return next(csv.DictReader(io.StringIO(f"{HEAD}\n{ROW}\n"))) | changes


def record(**changes: str) -> PatientRecord:
    resources = support2_fhir.to_fhir(row(**changes))
    return PatientRecord.from_resources(resources, prediction_time=support2_fhir.MEASURED, encounter_id="stay-7")


def test_the_third_day_is_read() -> None:
    vector = record().features()
    expected = {
        "age.last": 71.5, "mean_bp.last": 64, "wbc.last": 17.1, "heart_rate.last": 121, "respiratory_rate.last": 31,
        "temperature.last": 38.4, "pao2_fio2.last": 98, "albumin.last": 2.1, "creatinine.last": 2.2, "sodium.last": 132,
        "ph.last": 7.25, "bun.last": 61, "daily_urine_output.last": 410, "gcs.last": 10,
    }  # fmt: skip
    for name, value in expected.items():
        assert vector.number(name) == pytest.approx(value, abs=0.51 if name == "age.last" else 1e-3), name
    assert vector.number("bilirubin.last") is None
    assert vector.number("hours_since_admission.last") == pytest.approx(4 * 24 + 60)
    assert vector.number("condition.count") == 4, "the disease, cancer, diabetes and one more comorbidity"


@pytest.mark.parametrize("column", LATER)
def test_what_is_known_later_reaches_no_record(column: str) -> None:
    other = {"hospdead": "0", "slos": "40"}.get(column, "3")
    before, after = (json.dumps(r.to_meds(), default=str) for r in (record(), record(**{column: other})))
    assert before == after


def test_the_coma_score_keeps_its_order() -> None:
    points = [support2_fhir.COMA[score] for score in sorted(support2_fhir.COMA, key=int)]
    assert points == sorted(points, reverse=True)
    assert (points[0], points[-1]) == (15, 3)


def test_a_ratio_sent_instead_of_its_parts_is_the_input() -> None:
    from risk_model.features.inputs import row as inputs_of

    found = inputs_of(record(), ("pao2_fio2.last", "pao2_fio2.min", "pao2.last"))
    assert found[:2].tolist() == [98.0, 98.0]
    assert math.isnan(found[2])
