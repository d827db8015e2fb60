"""Who a score is for, its bands, and inputs that are stale, summed or coded."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fhir_mapping import PatientRecord
from fhir_mapping.terminology.diagnosis_tables import Scheme, scheme_groups
from risk_model.core.values import ScoreResult
from risk_model.scores import (
    charlson,
    comparators,
    compare_with_score,
    elixhauser,
    hospital_score,
    lace,
    mews,
    news2,
    qsofa,
    saps2,
    sofa,
    why_no_score,
)
from risk_model.scores.comorbidity import extremes
from risk_model.scores.critical_care import daily_urine, lowest_mean_pressure, oxygenation, saps_mortality
from tests.fhir_mapping.record.test_cases import PATIENT, observation
from tests.risk_model.scores.test_agreement import SAPS, estimate
from tests.risk_model.scores.test_scores import AT, ICD, points, record, stay
from tests.risk_model.scores.test_scores_oracles import ICU, VENTILATION, condition, drug, patient, seen

Resource = dict[str, Any]
SNOMED = "http://snomed.info/sct"
URGENT, PLANNED = ({"priority": {"coding": [{"code": code}]}} for code in ("EM", "EL"))
FROM = {"LACE": 18, "HOSPITAL": 18, "NEWS2": 16, "MEWS": 16, "qSOFA": 18, "SOFA": 18, "SAPS II": 18, "Charlson": 18,
        "Elixhauser": 18}  # fmt: skip
FUNCTIONS = {"LACE": lace, "HOSPITAL": hospital_score, "NEWS2": news2, "MEWS": mews, "qSOFA": qsofa, "SOFA": sofa,
             "SAPS II": saps2, "Charlson": charlson, "Elixhauser": elixhauser}  # fmt: skip


def found(score: ScoreResult | None) -> ScoreResult:
    assert score is not None
    return score


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_youngest_patient_of_each_score(name: str) -> None:
    """On the birthday itself, and not the day before it."""
    for birth, given in ((f"{AT.year - FROM[name]}-05-03", True), (f"{AT.year - FROM[name]}-05-04", False)):
        asked = record(stay(2, **ICU), patient=PATIENT | {"birthDate": birth})
        assert (FUNCTIONS[name](asked) is not None) is given, birth


READMISSION, MORTALITY = "readmission_30d", "in_hospital_mortality"
# birth date, stay, task, what the sentence says; "" where there is a score
WITHOUT_SCORE = [
    (None, True, READMISSION, "age is not known"),
    (None, True, MORTALITY, "age is not known"),
    (None, False, READMISSION, "age is not known"),
    (f"{AT.year - 10}", True, READMISSION, "of 18 years and over"),
    (f"{AT.year - 17}-01", True, READMISSION, "of 18 years and over"),
    (f"{AT.year - 17}-01", True, MORTALITY, ""),
    (f"{AT.year - 15}-01", True, MORTALITY, "of 16 years and over"),
    (f"{AT.year - 78}", False, READMISSION, "need an inpatient stay"),
    (f"{AT.year - 78}", False, MORTALITY, ""),
    (f"{AT.year - 78}", True, READMISSION, ""),
    (f"{AT.year - 78}", True, "sepsis", "for this question"),
]


@pytest.mark.parametrize(("birth", "stays", "task", "says"), WITHOUT_SCORE)
def test_why_there_is_no_score_is_said_truly(birth: str | None, stays: bool, task: str, says: str) -> None:
    """A man of 78 read that the scores were for adults whose age is known."""
    aged = PATIENT | {"birthDate": birth} if birth else {k: v for k, v in PATIENT.items() if k != "birthDate"}
    asked = record(*([stay(2)] if stays else []), patient=aged)
    assert bool(comparators(asked, task)) is not bool(says)
    if says:
        assert says in why_no_score(asked, task)


@pytest.mark.parametrize(
    ("age", "task", "says"),
    [
        (30, READMISSION, "pregnancy"),
        (17, MORTALITY, "pregnancy"),
        (17, READMISSION, "of 18 years"),
        (30, MORTALITY, ""),
    ],
)
def test_pregnancy_is_why_there_is_no_score(age: int, task: str, says: str) -> None:
    asked = record(stay(2), condition("O24.4"), patient=PATIENT | {"birthDate": f"{AT.year - age}-01"})
    assert bool(comparators(asked, task)) is not bool(says)
    if says:
        assert says in why_no_score(asked, task)


@pytest.mark.parametrize("name", ["LACE", "HOSPITAL", "SOFA", "SAPS II"])
def test_scores_of_a_stay_need_one(name: str) -> None:
    assert FUNCTIONS[name](record()) is None


@pytest.mark.parametrize(
    ("name", "source"),
    [("LACE", "van Walraven"), ("HOSPITAL", "Donzé"), ("NEWS2", "Royal College"), ("MEWS", "Subbe"), ("qSOFA", "Seymour"),
     ("SOFA", "Vincent"), ("SAPS II", "Le Gall"), ("Charlson", "Charlson"), ("Elixhauser", "van Walraven")],
)  # fmt: skip
def test_each_score_names_itself_and_its_publication(name: str, source: str) -> None:
    score = found(FUNCTIONS[name](record(stay(2, **ICU))))
    assert score.name.startswith(name)
    assert source in score.source


@pytest.mark.parametrize(
    ("days", "admission", "codes", "total", "band"),
    [
        (4, PLANNED, [], 4, "low"),
        (7, PLANNED, [], 5, "moderate"),
        (7, URGENT, ["I25.2"], 9, "moderate"),
        (7, URGENT, ["I50.9"], 10, "high"),
        (14, URGENT, ["C78.0"], 15, "high"),
    ],
)
def test_lace_bands(days: float, admission: Resource, codes: list[str], total: int, band: str) -> None:
    """van Walraven 2010: expected risk rises with each point; hospitals call 10 and more high, 5 and more moderate."""
    score = found(lace(record(stay(days, **admission), *(condition(code, n) for n, code in enumerate(codes)))))
    assert (score.low, score.high, score.maximum, score.band) == (total, total, 19, band)


@pytest.mark.parametrize(("visits", "expected"), [(0, 0), (1, 1), (3, 3), (4, 4), (6, 4)])
def test_lace_counts_at_most_four_emergency_visits(visits: int, expected: int) -> None:
    """Those of the six months before; one of seven months ago does not count."""
    emergency = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"}
    listed = [
        stay(2) | {"id": f"v{n}", "status": "finished", "class": emergency, "period": {"start": start, "end": end}}
        for n, (start, end) in enumerate(
            [("2023-09-20T08:00:00Z", "2023-09-20T12:00:00Z")]
            + [(f"2024-03-{n:02}T08:00:00Z", f"2024-03-{n:02}T12:00:00Z") for n in range(1, visits + 1)]
        )
    ]
    assert points(found(lace(record(stay(2), *listed))), "emergency visits in 6 months") == expected


def hospital(points_wanted: int) -> ScoreResult:
    """A complete HOSPITAL of so many points, from 0 to 7."""
    earlier = [
        stay(2) | {"id": f"e{n}", "status": "finished", "period": {"start": f"2024-0{n}-01", "end": f"2024-0{n}-03"}}
        for n in (1, 2)
    ]
    operation = {
        "resourceType": "Procedure", "id": "op", "status": "completed", "subject": {"reference": "Patient/p"},
        "encounter": {"reference": "Encounter/stay"}, "code": {"text": "x"}, "performedDateTime": "2024-05-01T09:00:00Z",
    }  # fmt: skip
    rest, long, admitted = points_wanted, points_wanted >= 2, points_wanted >= 4
    rest -= 2 * long + 2 * admitted
    blood, salt, urgent = (rest > n for n in range(3))
    return found(
        hospital_score(
            record(
                stay(6 if long else 2, **(URGENT if urgent else PLANNED)),
                *(earlier if admitted else ()),
                observation("718-7", 10 if blood else 14, "g/dL", id="hb"),
                observation("2951-2", 130 if salt else 140, "mmol/L", id="na"),
                *([operation] if rest > 3 else ()),
            )
        )
    )


@pytest.mark.parametrize(
    ("total", "band", "risk"),
    [(0, "low", 0.058), (1, "low", 0.058), (4, "low", 0.058), (5, "intermediate", 0.119), (6, "intermediate", 0.119),
     (7, "high", 0.228)],
)  # fmt: skip
def test_hospital_bands(total: int, band: str, risk: float) -> None:
    """Donzé 2016: 0 to 4, 5 and 6, 7 and more."""
    score = hospital(total)
    assert (score.low, score.high, score.missing, score.maximum) == (total, total, (), 13)
    assert (score.band, score.expected_risk) == (band, risk)


def test_hospital_shows_its_inputs_with_units() -> None:
    shown = {name: (value, number) for name, value, number in hospital(7).inputs}
    assert shown["hemoglobin"] == ("10 g/dL", 1)
    assert shown["sodium"] == ("130 mmol/L", 1)
    assert shown["length of stay"] == ("6 days", 2)
    assert shown["non-elective admission"] == ("yes", 1)
    assert shown["admissions in the year before"] == ("2", 2)
    assert shown["oncology service"] == ("no tumour recorded", 0)
    assert shown["procedures in this stay"] == ("0", 0)


@pytest.mark.parametrize(("earlier", "expected"), [(0, 0), (1, 0), (2, 2), (5, 2), (6, 5), (9, 5)])
def test_hospital_admissions_of_the_year_before(earlier: int, expected: int) -> None:
    listed = [
        stay(2)
        | {
            "id": f"e{n}",
            "status": "finished",
            "period": {"start": f"2023-{n:02}-10T08:00:00Z", "end": f"2023-{n:02}-12T08:00:00Z"},
        }
        for n in [1, *range(13 - earlier, 13)][: earlier + 1]
    ]  # the first, of January 2023, is more than a year before
    score = found(hospital_score(record(stay(2), *listed)))
    assert points(score, "admissions in the year before") == expected


@pytest.mark.parametrize(
    ("system", "code", "expected"),
    [(SNOMED, "394593009", 2), (SNOMED, "394592004", 2), (SNOMED, "394594003", 2), (SNOMED, "394579002", 0),
     ("urn:local", "394593009", 0)],
)  # fmt: skip
def test_discharge_from_an_oncology_service(system: str, code: str, expected: int) -> None:
    """Medical oncology, clinical oncology, haemato-oncology; cardiology and a code of another system are none."""
    service = {"serviceType": {"coding": [{"system": "urn:local", "code": "1"}, {"system": system, "code": code}]}}
    score = found(hospital_score(record(stay(2, **service))))
    assert points(score, "oncology service") == expected
    assert {n: v for n, v, _ in score.inputs}["oncology service"] == ("yes" if expected else "no tumour recorded")


@pytest.mark.parametrize("code", ["C34.1", "C78.0"])
def test_a_tumour_leaves_open_whether_oncology_discharges(code: str) -> None:
    score = found(hospital_score(record(stay(2), condition(code))))
    assert "oncology service" in score.missing
    other = found(hospital_score(record(stay(2), condition("I10"))))
    assert "oncology service" not in other.missing
    assert score.high - score.low == other.high - other.low + 2


@pytest.mark.parametrize(
    ("values", "total", "band"),
    [({"hr": 111, "rr": 21, "sbp": 110, "temp": 37, "gcs": 15}, 4, "low"),
     ({"hr": 111, "rr": 30, "sbp": 110, "temp": 37, "gcs": 15}, 5, "high")],
)  # fmt: skip
def test_mews_bands(values: dict[str, float], total: int, band: str) -> None:
    score = found(mews(patient(**values)))
    assert (score.low, score.high, score.maximum, score.band) == (total, total, 14, band)


@pytest.mark.parametrize(("word", "expected"), [("LA9340-6", 0), ("LA17108-4", 1), ("LA17107-6", 2), ("LA9343-0", 3)])
def test_the_coded_level_of_consciousness_counts_in_mews_and_news2(word: str, expected: int) -> None:
    """AVPU: alert 0, voice 1, pain 2, unresponsive 3; in NEWS2 everything but alert is 3."""
    for hour, recent in (("2024-05-02T12:00:00Z", True), ("2024-05-02T11:59:00Z", False)):
        level = observation("67775-7", id="avpu", effectiveDateTime=hour)
        del level["valueQuantity"]
        level["valueCodeableConcept"] = {"coding": [{"system": "http://loinc.org", "code": word}]}
        ward = record(stay(3), level)
        if recent:
            assert points(found(mews(ward)), "consciousness (AVPU)") == expected
            assert points(found(news2(ward)), "consciousness") == (0 if expected == 0 else 3)
        else:
            assert "consciousness (AVPU)" in found(mews(ward)).missing
            assert "consciousness" in found(news2(ward)).missing


@pytest.mark.parametrize(("rr", "gcs", "total", "band"), [(22, 15, 1, "low"), (22, 14, 2, "high")])
def test_qsofa_bands(rr: float, gcs: float, total: int, band: str) -> None:
    score = found(qsofa(patient(rr=rr, gcs=gcs, sbp=120)))
    assert (score.low, score.maximum, score.band) == (total, 3, band)


WELL = {
    "pao2": 90.0,
    "map": 80.0,
    "gcs": 15.0,
    "platelets": 200.0,
    "bilirubin": 1.0,
    "creatinine": 1.0,
    "urine": 1500.0,
}
AIR = seen("fio2", 21, "2024-05-03T09:00:00Z")  # 90 mmHg on air: 429, no points


@pytest.mark.parametrize(
    ("changed", "total", "band"),
    [({}, 0, "low"), ({"gcs": 5, "platelets": 60}, 6, "low"), ({"gcs": 5, "platelets": 30}, 7, "medium"),
     ({"gcs": 5, "platelets": 10, "bilirubin": 3}, 10, "medium"), ({"gcs": 5, "platelets": 10, "bilirubin": 7}, 11, "high")],
)  # fmt: skip
def test_sofa_bands(changed: dict[str, float], total: int, band: str) -> None:
    score = found(sofa(patient(AIR, **(WELL | changed))))
    assert (score.low, score.high, score.maximum, score.band) == (total, total, 24, band)
    assert score.published_risk is None


def test_above_eleven_points_of_sofa_more_than_eighty_percent_died() -> None:
    score = found(sofa(patient(AIR, **(WELL | {"gcs": 5, "platelets": 10, "bilirubin": 13}))))
    assert (score.low, score.published_risk) == (12, (0.8, 1.0))


def test_saps2_bands_are_ten_and_fifty_percent() -> None:
    """29 points are 9.7 %, 30 are 10.6 %; 51 are 48 %, 52 are 50.7 % (Le Gall 1993)."""
    known = {"hr": 80, "sbp": 120, "temp": 37, "urine": 1500, "bun": 20, "wbc": 8, "k": 4, "na": 140, "hco3": 24,
             "bilirubin": 1, "gcs": 15}  # fmt: skip
    bands = {}
    for years, gcs, hco3, urine in [
        (65, 15, 24, 1500),
        (65, 15, 18, 800),
        (65, 15, 14, 800),
        (85, 9, 18, 400),
        (85, 3, 24, 1500),
        (85, 5, 18, 800),
    ]:
        changed = known | {"gcs": gcs, "hco3": hco3, "urine": urine}
        score = found(saps2(patient(birth=f"{AT.year - years}-01-01", **changed)))
        assert score.complete, score.missing
        assert score.maximum == 163
        risk = saps_mortality(score.low)
        assert score.expected_risk == risk
        bands[score.low] = (score.band, risk)
    assert all(band == ("low" if risk < 0.1 else "medium" if risk < 0.5 else "high") for band, risk in bands.values())
    assert {band for band, _ in bands.values()} == {"low", "medium", "high"}


@pytest.mark.parametrize(
    ("setting", "gas", "expected"),
    [
        (("2024-05-03T09:00:00Z", 50), "2024-05-03T10:00:00Z", 150),
        (("2024-05-03T06:00:00Z", 50), "2024-05-03T10:00:00Z", 150),
        (("2024-05-03T05:59:00Z", 50), "2024-05-03T10:00:00Z", None),
        (("2024-05-03T10:01:00Z", 50), "2024-05-03T10:00:00Z", None),
        (("2024-05-03T10:00:00Z", 50), "2024-05-03T10:00:00Z", 150),
        (("2024-05-02T11:00:00Z", 50), "2024-05-02T12:00:00Z", 150),
        (("2024-05-02T11:00:00Z", 50), "2024-05-02T11:59:00Z", None),
    ],
)  # fmt: skip
def test_oxygenation_pairs_a_gas_with_the_setting_of_four_hours_before(
    setting: tuple[str, float], gas: str, expected: float | None
) -> None:
    at, fraction = setting
    asked = patient(seen("fio2", fraction, at), seen("pao2", 75, gas, "1"))
    ratio = oxygenation(asked)
    assert ratio == (None if expected is None else pytest.approx(expected))


def test_oxygenation_is_the_worst_of_all_gases_with_their_newest_settings() -> None:
    listed = [seen("fio2", 50, "2024-05-03T08:00:00Z", "1"), seen("fio2", 30, "2024-05-03T09:00:00Z", "2"),
              seen("fio2", 100, "2024-05-03T11:30:00Z", "3"), seen("pao2", 90, "2024-05-03T08:30:00Z", "1"),
              seen("pao2", 48, "2024-05-03T10:00:00Z", "2")]  # fmt: skip
    assert oxygenation(patient(*listed)) == pytest.approx(160)
    assert oxygenation(patient(*reversed(listed))) == pytest.approx(160)
    stated = observation("50984-4", 140, "mm[Hg]", id="ratio", effectiveDateTime="2024-05-03T07:00:00Z")
    assert oxygenation(patient(*listed, stated)) == pytest.approx(140)
    old = observation("50984-4", 140, "mm[Hg]", id="ratio", effectiveDateTime="2024-05-02T11:00:00Z")
    assert oxygenation(patient(*listed, old)) == pytest.approx(160)


def test_air_is_twenty_one_percent_whatever_is_charted() -> None:
    assert oxygenation(patient(seen("fio2", 21, "2024-05-03T09:00:00Z"), pao2=84)) == pytest.approx(400)


def test_mean_pressure_is_measured_or_from_a_pair_of_one_time() -> None:
    def pressure(systolic: float, diastolic: float, hour: str, other: str | None = None) -> list[Resource]:
        return [seen("sbp", systolic, hour, hour),
                observation("8462-4", diastolic, "mm[Hg]", id=f"d{hour}", effectiveDateTime=other or hour)]  # fmt: skip

    def lowest(*seen_ones: Resource, **values: float) -> float | None:
        asked = patient(*seen_ones, **values)
        return lowest_mean_pressure(asked, asked.features())

    one = pressure(120, 60, "2024-05-03T08:00:00Z")
    two = pressure(90, 45, "2024-05-03T09:00:00Z")
    assert lowest(*one) == pytest.approx(80)
    assert lowest(*one, *two) == lowest(*two, *one) == pytest.approx(60)
    assert lowest(*one, *two, map=77) == 77
    assert lowest(*pressure(90, 45, "2024-05-03T09:00:00Z", "2024-05-03T09:01:00Z")) is None
    assert lowest(*pressure(90, 45, "2024-05-02T11:00:00Z")) is None
    assert lowest() is None


def urine(*amounts: tuple[str, float], days: float = 2) -> float | None:
    listed = [
        observation("9187-6", amount, "mL", id=f"u{hour}", effectiveDateTime=f"2024-05-{hour}:00Z")
        for hour, amount in amounts
    ]
    asked = PatientRecord.from_resources([PATIENT, stay(days, **ICU), *listed], prediction_time=AT)
    return daily_urine(asked.features())


def test_hourly_urine_is_summed_over_a_whole_day() -> None:
    """Amounts of the past 24 hours; in a stay of less than a day the rest of the day is unknown."""
    some = [("03T02:00", 150.0), ("03T06:00", 250.0), ("03T10:00", 100.0)]
    assert urine(*some) == pytest.approx(500)
    assert urine(*some, ("02T11:00", 900.0)) == pytest.approx(500)
    assert urine(*some, days=1) == pytest.approx(500)
    assert urine(*some, days=0.95) is None
    assert urine() is None


@pytest.mark.parametrize(
    ("values", "low", "high", "missing"),
    [
        ({"creatinine": 1.0}, 0, 4, "urine output"),
        ({"creatinine": 3.6}, 3, 4, "urine output"),
        ({"creatinine": 5.0}, 4, 4, None),
        ({"urine": 1500.0}, 0, 4, "creatinine"),
        ({"urine": 300.0}, 3, 4, "creatinine"),
        ({"creatinine": 1.0, "urine": 300.0}, 3, 3, None),
        ({"creatinine": 5.5, "urine": 300.0}, 4, 4, None),
    ],
)
def test_the_kidney_of_sofa_by_what_is_known(
    values: dict[str, float], low: int, high: int, missing: str | None
) -> None:
    others = {name: value for name, value in WELL.items() if name not in {"creatinine", "urine"}}
    score = found(sofa(patient(AIR, **others, **values)))
    assert (score.low, score.high) == (low, high)
    assert score.missing == ((missing,) if missing else ())


@pytest.mark.parametrize(
    ("extra", "ratio", "low", "high", "missing"),
    [
        ([VENTILATION], 75, 9, 9, None),
        ([VENTILATION], 40, 11, 11, None),
        ([VENTILATION], 100, 6, 6, None),
        ([VENTILATION], None, 6, 11, "oxygenation under ventilation"),
        ([], 75, 0, 0, None),
    ],
)
def test_oxygenation_of_saps2_counts_under_ventilation(
    extra: list[Resource], ratio: float | None, low: int, high: int, missing: str | None
) -> None:
    setting = seen("fio2", 50, "2024-05-03T09:00:00Z")
    values = {} if ratio is None else {"pao2": float(ratio)}
    score = found(saps2(patient(setting, *extra, **values)))
    name = "oxygenation under ventilation"
    shown = [number for item, _, number in score.inputs if item == name]
    assert (name in score.missing) is (missing is not None)
    assert missing is not None or shown == [low] == [high]


@pytest.mark.parametrize(("ratio", "most"), [(75, 9), (40, 11), (100, 6), (None, 11)])
def test_unknown_ventilation_of_saps2_is_a_range(ratio: float | None, most: int) -> None:
    setting = seen("fio2", 50, "2024-05-03T09:00:00Z")
    values = {} if ratio is None else {"pao2": float(ratio)}
    unknown = found(saps2(patient(setting, not_fetched=frozenset({"Procedure"}), **values)))
    known = found(saps2(patient(setting, **values)))
    assert "ventilation" in unknown.missing
    assert "ventilation" not in known.missing
    assert unknown.low == known.low - 6
    assert unknown.high - known.high == most + (8 - 6)  # the type of admission is not known either


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], 0),
        (["C78.0"], 9),
        (["C91.0"], 10),
        (["B20"], 17),
        (["C78.0", "B20"], 17),
        (["C78.0", "C91.0"], 10),
        (["I10"], 0),
    ],
)
def test_chronic_diseases_of_saps2_count_the_heaviest(codes: list[str], expected: int) -> None:
    """Metastatic cancer 9, haematological malignancy 10, AIDS 17 (Le Gall 1993)."""
    score = found(saps2(patient(*(condition(code, n) for n, code in enumerate(codes)))))
    assert points(score, "chronic disease") == expected


@pytest.mark.parametrize(
    ("codes", "system", "expected"),
    [(["7512"], "http://www.nlm.nih.gov/research/umls/rxnorm", 2), (["3628"], "http://www.nlm.nih.gov/research/umls/rxnorm", 2),
     (["3616"], "http://www.nlm.nih.gov/research/umls/rxnorm", 2), (["161"], "http://www.nlm.nih.gov/research/umls/rxnorm", 0)],
)  # fmt: skip
def test_vasopressors_by_their_ingredient(codes: list[str], system: str, expected: int) -> None:
    """Norepinephrine, dopamine and dobutamine are given by infusion alone; paracetamol is no vasopressor."""
    order = drug("by the pump") | {
        "medicationCodeableConcept": {"coding": [{"system": system, "code": c} for c in codes]}
    }
    score = found(sofa(patient(AIR, order, **WELL)))
    assert (score.low, "dose of vasopressors" in score.missing) == (expected, expected == 2)


def test_epinephrine_by_its_ingredient_may_be_an_infusion() -> None:
    code = {"coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "3992"}]}
    score = found(sofa(patient(AIR, drug("?") | {"medicationCodeableConcept": code}, **WELL)))
    assert (score.low, score.high, score.missing) == (0, 4, ("vasopressors",))


@pytest.mark.parametrize(
    ("codes", "total", "band"),
    [([], 0, "none"), (["I50.9"], 1, "mild"), (["I50.9", "J44.9"], 2, "mild"), (["I50.9", "J44.9", "I21.0"], 3, "moderate"),
     (["C78.0"], 6, "severe"), (["G81.9", "C34.1"], 4, "moderate"), (["G81.9", "C34.1", "I50.9"], 5, "severe")],
)  # fmt: skip
def test_charlson_bands(codes: list[str], total: int, band: str) -> None:
    score = found(charlson(patient(*(condition(code, n) for n, code in enumerate(codes)))))
    assert (score.low, score.high, score.maximum, score.band) == (total, total, 29, band)


@pytest.mark.parametrize(
    ("codes", "total"),
    [([], 0), (["I50.9"], 7), (["C78.0"], 12), (["C34.1"], 4), (["C34.1", "C78.0"], 12), (["E66.9"], -4), (["F32.9"], -3),
     (["I50.9", "E66.9"], 3), (["D50.0"], -2), (["F19.20"], -7)],
)  # fmt: skip
def test_elixhauser_by_hand(codes: list[str], total: int) -> None:
    """Weights of van Walraven 2009: heart failure 7, metastases 12, solid tumour 4, obesity -4, depression -3, blood loss
    anaemia -2, drug abuse -7."""
    score = found(elixhauser(patient(*(condition(code, n, ICD) for n, code in enumerate(codes)))))
    assert (score.low, score.high, score.maximum, score.band) == (total, total, 85, None)


WIDTHS = [
    (lace, "Encounter", {"emergency visits in 6 months": 4}),
    (lace, "Condition", {"comorbidities": 5}),
    (hospital_score, "Encounter", {"admissions in the year before": 5}),
    (hospital_score, "Procedure", {"procedures in this stay": 1}),
    (hospital_score, "Condition", {"oncology service": 2}),
]


@pytest.mark.parametrize(("score", "kind", "widths"), WIDTHS)
def test_a_type_that_was_not_fetched_widens_a_score_by_its_points(
    score: Any, kind: str, widths: dict[str, int]
) -> None:
    whole = found(score(record(stay(2, **PLANNED))))
    asked = found(score(record(stay(2, **PLANNED), not_fetched=frozenset({kind}))))
    assert set(asked.missing) - set(whole.missing) == set(widths)
    assert asked.high - whole.high == sum(widths.values())
    assert asked.low == whole.low


@pytest.mark.parametrize("score", [lace, hospital_score])
def test_unknown_blood_and_admission_have_their_points(score: Any) -> None:
    asked = found(score(record(stay(2))))
    known = found(score(record(stay(2, **PLANNED))))
    assert asked.high - known.high == (3 if score is lace else 1)
    assert "emergency admission" in asked.missing or "non-elective admission" in asked.missing
    if score is hospital_score:
        assert {"hemoglobin", "sodium"} <= set(asked.missing)
        blood = found(score(record(stay(2, **PLANNED), observation("718-7", 14, "g/dL"))))
        assert known.high - blood.high == 1


@pytest.mark.parametrize("kind", ["MedicationRequest", "MedicationStatement"])
@pytest.mark.parametrize(("pressure", "low"), [(80.0, 0), (69.0, 1), (70.0, 0)])
def test_vasopressors_that_were_not_fetched_are_unknown(kind: str, pressure: float, low: int) -> None:
    asked = found(sofa(patient(AIR, not_fetched=frozenset({kind}), **(WELL | {"map": pressure}))))
    assert (asked.low, asked.high, asked.missing) == (low, 4, ("vasopressors",))


def test_unknown_items_have_the_most_points_of_their_tables() -> None:
    """A record without any value: from nothing to the maximum of each item."""
    empty = PatientRecord.from_resources([PATIENT, stay(2, **ICU)], prediction_time=AT)
    for score, high in ((news2(empty), 20), (mews(empty), 14), (qsofa(empty), 3)):
        assert (found(score).low, found(score).high) == (0, high)
    mostly = found(sofa(empty))
    assert (mostly.low, mostly.high) == (0, 24 - 3)  # no vasopressor was ordered: circulation is 1 at most
    assert found(saps2(empty)).missing


@pytest.mark.parametrize("scheme", [Scheme.CHARLSON, Scheme.ELIXHAUSER])
def test_what_unknown_groups_could_add_by_trying_them(scheme: Scheme) -> None:
    """Every pair of a disease and its graver form by all four possibilities, with either known; the rest one by one."""
    groups = {group.name: group for group in scheme_groups(scheme)}
    pairs = {group.over: name for name, group in groups.items() if group.over}
    assert pairs
    alone = [group.weight for name, group in groups.items() if name not in pairs and not group.over]

    def points(lesser: str, has_lesser: bool, has_graver: bool) -> int:
        graver = pairs[lesser]
        return groups[graver].weight if has_graver else groups[lesser].weight * has_lesser

    for known in [None, *groups]:
        low = sum(min(0, weight) for weight in alone)
        high = sum(max(0, weight) for weight in alone)
        if known is not None and known not in pairs and not groups[known].over:
            low, high = low - min(0, groups[known].weight), high - max(0, groups[known].weight)
        for lesser, graver in pairs.items():
            now = points(lesser, known == lesser, known == graver)
            possible = [
                points(lesser, first or known == lesser, second or known == graver) - now
                for first in (False, True)
                for second in (False, True)
            ]
            low, high = low + min(possible), high + max(possible)
        assert extremes(scheme, frozenset({known} if known else ())) == (low, high), known


@pytest.mark.parametrize(("hours", "points_low"), [(23, 2), (24, 2), (24.01, 0)])
def test_a_dose_of_a_vasopressor_counts_for_a_day(hours: float, points_low: int) -> None:
    at = (AT - timedelta(hours=hours)).isoformat()
    given = drug("norepinephrine infusion", "MedicationAdministration", effectiveDateTime=at)
    assert found(sofa(patient(AIR, given, **WELL))).low == points_low


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((0.40, 0.55), "AGREES"), ((0.40, 0.549), "DISAGREES"), ((0.77, 0.9), "AGREES"), ((0.771, 0.9), "DISAGREES")],
)
def test_an_interval_that_touches_the_published_range_agrees(interval: tuple[float, float], expected: str) -> None:
    """SAPS gives 0.55 to 0.77 here."""
    asked = estimate(sum(interval) / 2, interval, SAPS)
    assert compare_with_score(asked).agreement.name == expected
