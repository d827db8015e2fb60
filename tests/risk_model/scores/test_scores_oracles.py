"""Scores against other people's implementations, over thousands of random patients; and ranges that only narrow.

Oracles: vitalscore (NEWS2 on both scales, qSOFA), medcalc-bench (SOFA), pycomorb (Charlson, Elixhauser). MEWS, SAPS II
and the border of every other table are checked by hand here and in `test_scores`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mapping import PatientRecord
from fhir_mapping.terminology.diagnosis_tables import Scheme, scheme_groups
from risk_model.core.values import ScoreResult
from risk_model.scores.comorbidity import charlson, elixhauser, extremes
from risk_model.scores.critical_care import (
    saps2,
    saps_age,
    saps_coma,
    saps_mortality,
    saps_pressure,
    saps_pulse,
    sofa,
    sofa_bilirubin,
    sofa_coma,
    sofa_creatinine,
    sofa_oxygenation,
    sofa_platelets,
)
from risk_model.scores.early_warning import mews, news2, qsofa
from risk_model.scores.readmission import hospital_score, lace
from tests.fhir_mapping.record.test_cases import PATIENT, observation
from tests.risk_model.scores.test_scores import AT, ICD, points, stay

Resource = dict[str, Any]
CODES = {
    "rr": ("9279-1", "/min"), "spo2": ("2708-6", "%"), "fio2": ("3150-6", "%"), "sbp": ("8480-6", "mm[Hg]"),
    "hr": ("8867-4", "/min"), "temp": ("8310-5", "Cel"), "gcs": ("9269-2", "{score}"), "map": ("8478-0", "mm[Hg]"),
    "platelets": ("777-3", "10*3/uL"), "bilirubin": ("1975-2", "mg/dL"), "creatinine": ("2160-0", "mg/dL"),
    "pao2": ("2703-7", "mm[Hg]"), "urine": ("9192-6", "mL"), "bun": ("3094-0", "mg/dL"), "wbc": ("6690-2", "10*3/uL"),
    "k": ("2823-3", "mmol/L"), "na": ("2951-2", "mmol/L"), "hco3": ("1963-8", "mmol/L"), "hb": ("718-7", "g/dL"),
}  # fmt: skip
ICU = {"type": [{"coding": [{"system": "http://snomed.info/sct", "code": "305351004"}]}]}
VENTILATION = {
    "resourceType": "Procedure", "id": "vent", "status": "in-progress", "subject": {"reference": "Patient/p"},
    "code": {"coding": [{"system": "http://snomed.info/sct", "code": "40617009"}]}, "performedDateTime": "2024-05-02T10:00:00Z",
}  # fmt: skip


def seen(name: str, value: float, at: str = "2024-05-03T10:00:00Z", tag: str = "") -> Resource:
    code, unit = CODES[name]
    return observation(code, value, unit, effectiveDateTime=at, id=f"o-{name}{tag}")


def patient(
    *extra: Resource, not_fetched: frozenset[str] = frozenset(), birth: str = "1950-02-03", **values: float
) -> PatientRecord:
    """An adult two days into intensive care, with these values of two hours ago."""
    resources = [PATIENT | {"birthDate": birth}, stay(2, **ICU), *extra, *(seen(n, v) for n, v in values.items())]
    return PatientRecord.from_resources(resources, prediction_time=AT, not_fetched=not_fetched)


def exact(score: ScoreResult | None) -> int:
    assert score is not None
    assert score.complete, score.missing
    assert score.low == score.high
    return score.low


@pytest.mark.parametrize("scale", [1, 2])
def test_news2_agrees_with_vitalscore(scale: Any) -> None:
    from vitalscore.scores.news2 import ACVPULevel, NEWS2Result

    chance = random.Random(scale)
    for _ in range(1500):
        rr, sbp, hr = chance.randint(4, 40), chance.randint(60, 240), chance.randint(30, 160)
        spo2, temp, gcs = chance.randint(78, 100), round(chance.uniform(33.5, 41), 1), chance.randint(3, 15)
        oxygen = chance.random() < 0.5
        level = ACVPULevel.ALERT if gcs == 15 else ACVPULevel.CONFUSION
        expected = NEWS2Result(rr, spo2, oxygen, sbp, hr, level, temp, use_spo2_scale2=scale == 2).total
        record = patient(rr=rr, spo2=spo2, sbp=sbp, hr=hr, temp=temp, gcs=gcs, fio2=40 if oxygen else 21)
        assert exact(news2(record, scale=scale)) == expected, (rr, spo2, oxygen, sbp, hr, temp, gcs)


def test_qsofa_agrees_with_vitalscore() -> None:
    from vitalscore.scores.qsofa import score_qsofa

    chance = random.Random(3)
    for _ in range(1500):
        rr, sbp, gcs = chance.randint(5, 45), chance.randint(50, 220), chance.randint(3, 15)
        assert exact(qsofa(patient(rr=rr, sbp=sbp, gcs=gcs))) == score_qsofa(gcs, rr, sbp).total


def test_sofa_agrees_with_medcalc() -> None:
    """The oracle gives dopamine's two points to everybody whose pressure is normal: so pressure is low here."""
    from medcalc.sofa import compute_sofa_explanation

    chance = random.Random(4)
    for _ in range(1500):
        pao2, fio2 = chance.randint(40, 300), chance.choice([30, 40, 50, 60, 80, 100])
        if 198 <= 100 * pao2 / fio2 < 200:
            continue  # the oracle has a hole between 199 and 200
        platelets, gcs = chance.randint(5, 400), chance.randint(3, 15)
        bilirubin, creatinine = round(chance.uniform(0.2, 16), 1), round(chance.uniform(0.3, 8), 1)
        expected = compute_sofa_explanation(
            {
                "partial_pressure_oxygen": (pao2, "mm Hg"), "fio2": (fio2 / 100, ""), "mechanical_ventilation": True,
                "cpap": False, "sys_bp": (80, "mm Hg"), "dia_bp": (40, "mm Hg"), "gcs": gcs,
                "platelet_count": (platelets * 1000, "µL"), "bilirubin": (bilirubin, "mg/dL"),
                "creatinine": (creatinine, "mg/dL"),
            }
        )["Answer"]  # fmt: skip
        setting = seen("fio2", fio2, "2024-05-03T09:00:00Z")
        record = patient(
            setting, VENTILATION, pao2=pao2, map=53, gcs=gcs, platelets=platelets, bilirubin=bilirubin,
            creatinine=creatinine, urine=1500,
        )  # fmt: skip
        assert exact(sofa(record)) == expected, (pao2, fio2, platelets, gcs, bilirubin, creatinine)


@pytest.mark.parametrize(
    ("points_of", "borders"),
    [
        (sofa_platelets, [(19, 4), (20, 3), (49, 3), (50, 2), (99, 2), (100, 1), (149, 1), (150, 0)]),
        (sofa_bilirubin, [(1.1, 0), (1.2, 1), (1.9, 1), (2, 2), (5.9, 2), (6, 3), (11.9, 3), (12, 4)]),
        (sofa_coma, [(5, 4), (6, 3), (9, 3), (10, 2), (12, 2), (13, 1), (14, 1), (15, 0)]),
        (sofa_creatinine, [(1.1, 0), (1.2, 1), (1.9, 1), (2, 2), (3.4, 2), (3.5, 3), (4.9, 3), (5, 4)]),
        (lambda v: sofa_oxygenation(v, supported=True), [(99, 4), (100, 3), (199, 3), (200, 2), (299, 2), (300, 1), (399, 1), (400, 0)]),
        (lambda v: sofa_oxygenation(v, supported=False), [(99, 2), (199, 2), (299, 2), (300, 1), (400, 0)]),
        (saps_age, [(39, 0), (40, 7), (59, 7), (60, 12), (69, 12), (70, 15), (74, 15), (75, 16), (79, 16), (80, 18)]),
        (saps_pulse, [(39, 11), (40, 2), (69, 2), (70, 0), (119, 0), (120, 4), (159, 4), (160, 7)]),
        (saps_pressure, [(69, 13), (70, 5), (99, 5), (100, 0), (199, 0), (200, 2)]),
        (saps_coma, [(5, 26), (6, 13), (8, 13), (9, 7), (10, 7), (11, 5), (13, 5), (14, 0), (15, 0)]),
    ],
)  # fmt: skip
def test_borders_of_critical_care(points_of: Callable[[float], int], borders: list[tuple[float, int]]) -> None:
    assert [(value, points_of(value)) for value, _ in borders] == borders


SAPS = [
    ("temp", "temperature", [(38.9, 0), (39, 3)]),
    ("urine", "urine output", [(499, 11), (500, 4), (999, 4), (1000, 0)]),
    ("bun", "urea nitrogen", [(27, 0), (28, 6), (83, 6), (84, 10)]),
    ("wbc", "white cells", [(0.9, 12), (1, 0), (19.9, 0), (20, 3)]),
    ("k", "potassium", [(2.9, 3), (3, 0), (4.9, 0), (5, 3)]),
    ("na", "sodium", [(124, 5), (125, 0), (144, 0), (145, 1)]),
    ("hco3", "bicarbonate", [(14, 6), (15, 3), (19, 3), (20, 0)]),
    ("bilirubin", "bilirubin", [(3.9, 0), (4, 4), (5.9, 4), (6, 9)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "label", "value", "expected"), [(n, label, v, p) for n, label, borders in SAPS for v, p in borders]
)
def test_saps2_borders(name: str, label: str, value: float, expected: int) -> None:
    found = saps2(patient(**{name: value}))
    assert points(found, label) == expected


def condition(code: str, number: int = 0, system: str = ICD) -> Resource:
    coding = {"coding": [{"system": system, "code": code}]}
    return {"resourceType": "Condition", "id": f"c{number}", "subject": {"reference": "Patient/p"}, "code": coding}


def test_saps2_by_hand() -> None:
    """74 years 15, pulse 130 4, pressure 95 5, 39.2 degrees 3, ventilated with 150 mmHg 9, urine 800 4, urea 30 6,
    white cells 22 3, potassium 4 0, sodium 140 0, bicarbonate 18 3, bilirubin 1 0, coma scale 10 7, metastatic 9."""
    known = {"hr": 130, "sbp": 95, "temp": 39.2, "pao2": 75, "urine": 800, "bun": 30, "wbc": 22, "k": 4, "na": 140,
             "hco3": 18, "bilirubin": 1, "gcs": 10}  # fmt: skip
    setting = seen("fio2", 50, "2024-05-03T09:00:00Z")
    found = saps2(patient(setting, VENTILATION, condition("C78.0"), **known))
    assert found is not None
    without_admission = 15 + 4 + 5 + 3 + 9 + 4 + 6 + 3 + 0 + 0 + 3 + 0 + 7 + 9
    # A procedure was done: whether it was surgery, nobody says; planned surgery 0, medical 6, unplanned surgery 8.
    assert (found.low, found.high) == (without_admission, without_admission + 8)
    assert found.missing == ("type of admission",)
    assert found.expected_risk is None
    medical = saps2(patient(condition("C78.0"), **{k: v for k, v in known.items() if k != "pao2"}))
    assert exact(medical) == without_admission - 9 + 6
    assert medical is not None
    assert medical.expected_risk == pytest.approx(saps_mortality(without_admission - 3))


def drug(text: str, kind: str = "MedicationRequest", **more: Any) -> Resource:
    times = (
        {"authoredOn": "2024-05-03T01:00:00Z"}
        if kind == "MedicationRequest"
        else {"effectiveDateTime": "2024-05-03T01:00:00Z"}
    )
    status = "active" if kind == "MedicationRequest" else "completed"
    return {
        "resourceType": kind, "id": "m", "status": status, "intent": "order", "subject": {"reference": "Patient/p"},
        "medicationCodeableConcept": {"text": text}, **times, **more,
    }  # fmt: skip


DOSE = ("dose of vasopressors",)
PRESSORS = [
    ("norepinephrine 8 mg in 250 mL", 2, 4, DOSE),
    ("Noradrenaline", 2, 4, DOSE),
    ("dobutamine 250 MG in 50 ML", 2, 4, DOSE),
    ("DOPamine 400 mg in D5W", 2, 4, DOSE),
    ("epinephrine infusion 0.05 mcg/kg/min", 2, 4, DOSE),
    ("epinephrine 1 MG/ML Injectable Solution", 1, 4, ("vasopressors",)),
    ("0.3 ML Epinephrine 1 MG/ML Auto-Injector [EpiPen]", 1, 1, ()),
    ("Epinephrine 0.15 MG/0.15ML Prefilled Syringe", 1, 1, ()),
    ("Lidocaine Hydrochloride 10 MG/ML / Epinephrine 0.01 MG/ML Injectable Solution", 1, 1, ()),
    ("bupivacaine with adrenaline 1:200000", 1, 1, ()),
    ("Articaine / epinephrine dental cartridge", 1, 1, ()),
    ("epinephrine 1 mg nebulised", 1, 1, ()),
    ("racemic epinephrine 2.25 % inhalation solution", 1, 1, ()),
    ("Epinephrine ophthalmic solution", 1, 1, ()),
    ("adrenaline 0.5 mg IM", 1, 1, ()),
    ("levodopa 100 mg", 1, 1, ()),
    ("Dopamine agonist, as directed", 1, 1, ()),
]


@pytest.mark.parametrize(("text", "low", "high", "missing"), PRESSORS)
def test_only_infusions_of_vasopressors_count(text: str, low: int, high: int, missing: tuple[str, ...]) -> None:
    whole = {"pao2": 90, "map": 65, "gcs": 15, "platelets": 200, "bilirubin": 1.0, "creatinine": 1.0, "urine": 1500}
    air = seen("fio2", 21, "2024-05-03T09:00:00Z")
    assert exact(sofa(patient(air, **whole))) == 1
    for resource in (drug(text), drug(text, "MedicationAdministration")):
        found = sofa(patient(air, resource, **whole))
        assert found is not None
        assert (found.low, found.high, found.missing) == (low, high, missing)
    old = drug(text, "MedicationAdministration", effectiveDateTime="2024-05-01T12:00:00Z")
    assert exact(sofa(patient(air, old, **whole))) == 1


SI_BANDS = [
    (sofa_bilirubin, 17.1, {19: 0, 20: 1, 32: 1, 33: 2, 101: 2, 102: 3, 204: 3, 205: 4}),
    (sofa_creatinine, 88.4, {109: 0, 110: 1, 170: 1, 171: 2, 299: 2, 300: 3, 440: 3, 441: 4}),
    (sofa_bilirubin, 1.0, {1.1: 0, 1.2: 1, 1.9: 1, 1.93: 1, 2.0: 2, 5.9: 2, 6.0: 3, 11.9: 3, 12.0: 4}),
    (sofa_creatinine, 1.0, {1.1: 0, 1.2: 1, 1.9: 1, 1.94: 1, 2.0: 2, 3.4: 2, 3.5: 3, 4.9: 3, 5.0: 4}),
]


@pytest.mark.parametrize(("points", "factor", "expected"), SI_BANDS)
def test_sofa_bands_in_the_unit_of_the_measurement(
    points: Callable[[float], int], factor: float, expected: dict[float, int]
) -> None:
    assert {value: points(value / factor) for value in expected} == expected


def test_vasopressors_not_fetched_are_a_range() -> None:
    whole = {"pao2": 90, "map": 65, "gcs": 15, "platelets": 200, "bilirubin": 1.0, "creatinine": 1.0, "urine": 1500}
    air = seen("fio2", 21, "2024-05-03T09:00:00Z")
    unasked = sofa(patient(air, not_fetched=frozenset({"MedicationRequest"}), **whole))
    assert unasked is not None
    assert (unasked.low, unasked.high) == (1, 4)


@pytest.mark.parametrize(
    ("name", "label", "borders"),
    [
        ("sbp", "systolic pressure", [(70, 3), (71, 2), (80, 2), (81, 1), (100, 1), (101, 0), (199, 0), (200, 2)]),
        ("hr", "heart rate", [(40, 2), (41, 1), (50, 1), (51, 0), (100, 0), (101, 1), (110, 1), (111, 2), (129, 2), (130, 3)]),
        ("rr", "respiratory rate", [(8, 2), (9, 0), (14, 0), (15, 1), (20, 1), (21, 2), (29, 2), (30, 3)]),
        ("temp", "temperature", [(34.9, 2), (35, 0), (38.4, 0), (38.5, 2)]),
        ("gcs", "consciousness (AVPU)", [(15, 0), (3, 3)]),
    ],
)  # fmt: skip
def test_mews_borders(name: str, label: str, borders: list[tuple[float, int]]) -> None:
    for value, expected in borders:
        assert points(mews(patient(**{name: value})), label) == expected, value
    assert "consciousness (AVPU)" in mews(patient(gcs=12)).missing  # type: ignore[union-attr]


def test_scores_of_intensive_care_are_silent_elsewhere() -> None:
    ward = PatientRecord.from_resources([PATIENT, stay(2), seen("gcs", 15)], prediction_time=AT)
    assert sofa(ward) is None
    assert saps2(ward) is None
    assert mews(ward) is not None


ICD9 = "http://hl7.org/fhir/sid/icd-9-cm"


@pytest.mark.parametrize(("scheme", "version"), [(s, v) for s in (Scheme.CHARLSON, Scheme.ELIXHAUSER) for v in ("icd10", "icd9")])  # fmt: skip
def test_comorbidity_scores_agree_with_pycomorb(scheme: Scheme, version: str) -> None:
    import polars
    from pycomorb import comorbidity

    chance = random.Random(f"{scheme}{version}")
    pool = [
        (code + tail)[: 5 if version == "icd9" else 7]
        for group in scheme_groups(scheme)
        for code in getattr(group.codes, version)
        for tail in ("", "0", "9")
    ]
    letters = "ABCDEFGHIJKLMNOPQRSTZ" if version == "icd10" else "0123456789"
    categories = [f"{letter}{n:02d}" for letter in letters for n in range(100)]
    pool += [code + tail for code in categories if code != "000" for tail in ("", "1")]  # ICD-9-CM begins with 001
    charts = {str(n): chance.sample(pool, chance.randint(1, 8)) for n in range(2500)}
    rows = [{"id": n, "code": code, "age": 40} for n, codes in charts.items() for code in codes]
    answer = comorbidity(scheme.value, polars.DataFrame(rows), icd_version=version, implementation="quan")
    column = next(name for name in answer.columns if "Index" in name or "Score" in name)
    expected = dict(zip(answer["id"], answer[column], strict=True))
    score = charlson if scheme is Scheme.CHARLSON else elixhauser
    system = ICD if version == "icd10" else ICD9
    for n, codes in charts.items():
        record = PatientRecord.from_resources(
            [PATIENT, *(condition(code, i, system) for i, code in enumerate(codes))], prediction_time=AT
        )
        assert exact(score(record)) == expected[n], codes


def test_a_condition_in_no_icd_code_makes_a_range() -> None:
    plain = charlson(patient(condition("I50.9")))
    mixed = charlson(patient(condition("I50.9"), condition("314529007", 1, "http://snomed.info/sct")))
    unasked = charlson(patient(not_fetched=frozenset({"Condition"})))
    assert plain is not None
    assert mixed is not None
    assert unasked is not None
    assert (plain.low, plain.high) == (1, 1)
    assert (mixed.low, mixed.high, mixed.missing) == (1, 29, ("1 conditions of an unknown code",))
    assert (unasked.low, unasked.high) == (0, 29)
    assert extremes(Scheme.ELIXHAUSER, frozenset()) == (-19, 85)


ALL: tuple[Callable[[PatientRecord], ScoreResult | None], ...] = (
    lace, hospital_score, news2, lambda r: news2(r, scale=2), mews, qsofa, sofa, saps2, charlson, elixhauser,
)  # fmt: skip
RANGES = {"rr": (5, 40), "spo2": (80, 100), "fio2": (21, 100), "sbp": (60, 230), "hr": (30, 170), "temp": (34, 41),
          "gcs": (3, 15), "map": (40, 110), "platelets": (5, 400), "bilirubin": (0.2, 15), "creatinine": (0.3, 7),
          "pao2": (40, 300), "urine": (100, 3000), "bun": (5, 120), "wbc": (0.5, 40), "k": (2.5, 7), "na": (118, 155),
          "hco3": (8, 35), "hb": (6, 16)}  # fmt: skip
TYPES = ("Condition", "Procedure", "MedicationRequest", "Encounter")


@settings(max_examples=400, deadline=None)
@given(
    st.fixed_dictionaries({name: st.integers(int(low) + 1, int(high)) for name, (low, high) in RANGES.items()}),
    st.sets(st.sampled_from(sorted(RANGES))),
    st.sets(st.sampled_from(sorted(RANGES))),
    st.sets(st.sampled_from(TYPES)),
    st.sets(st.sampled_from(TYPES)),
    st.booleans(),
    st.sets(st.sampled_from(["C78.0", "I50.9", "E11.9", "E11.22", "C34.1", "B20", "E66.9", "F19.20"])),
)
def test_knowing_more_never_widens_a_range(
    values: dict[str, int],
    some: set[str],
    more: set[str],
    unasked: set[str],
    still: set[str],
    vent: bool,
    codes: set[str],
) -> None:
    """The same patient twice, the second time with more values and more resource types known."""
    extra = [condition(code, n) for n, code in enumerate(sorted(codes))] + ([VENTILATION] if vent else [])

    def known(names: set[str], not_fetched: set[str]) -> PatientRecord:
        kept = [r for r in extra if r["resourceType"] not in not_fetched]
        measured = {name: float(values[name]) for name in names}
        return patient(*kept, not_fetched=frozenset(not_fetched), **measured)

    less, full = known(some, unasked), known(some | more, unasked & still)
    for score in ALL:
        before, after = score(less), score(full)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert before.low <= after.low <= after.high <= before.high, (before, after)
            assert set(after.missing) <= set(before.missing) or len(after.missing) <= len(before.missing)
            assert before.band is None or before.band == after.band
