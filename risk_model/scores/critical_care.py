"""SOFA and SAPS II, the intensive care scores, from the worst values of the past 24 hours.

Both are for patients in intensive care: None unless the record shows it.
"""

from __future__ import annotations

import math
from datetime import timedelta

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.record import comorbidity_groups
from fhir_mapping.terminology import Scheme
from risk_model.core.values import ScoreResult
from risk_model.scores.items import ScoreItem, adult, below, item, total, with_risk, worst
from risk_model.scores.vasopressors import Vasopressor, vasopressor

_WINDOW = timedelta(hours=24)
# A blood gas is paired with the last oxygen setting before it, not older than this.
_SETTING_HOLDS = timedelta(hours=4)
_AMBIENT_AIR = 21.0
_UMOL_PER_MG_DL_BILIRUBIN, _UMOL_PER_MG_DL_CREATININE = 17.1, 88.4


def sofa(record: PatientRecord) -> ScoreResult | None:
    """SOFA 0-24 (Vincent et al., Intensive Care Med 1996;22:707).

    Doses of vasopressors are not read: with one running, circulation is 2 to 4 points; only infusions count (agents
    given for at least an hour). Three and four points for breathing need respiratory support. The table states
    bilirubin and creatinine in mg/dL and µmol/L, with other edges: a value counts by the unit it was measured in.

    The publication gives no risk of death; above 11 points on admission more than 80 % of 352 patients of one Belgian
    unit died (Ferreira et al., JAMA 2001;286:1754, abstract; PMID 11594901). Tables in circulation for fewer points
    could not be verified and are left out.
    """
    vector = record.features()
    if not adult(vector, 18) or not vector.number("intensive_care.last"):
        return None
    items = [
        _respiration(record, vector),
        item("platelets", vector.number("platelets.min_24h"), "×10³/µL", 4, sofa_platelets),
        item("bilirubin", vector.number("bilirubin.max_24h"), "mg/dL", 4, sofa_bilirubin),
        _circulation(record, vector),
        item("Glasgow Coma Scale", vector.number("gcs.min_24h"), "", 4, sofa_coma),
        _kidney(vector),
    ]
    result = total(
        "SOFA", 24, items, lambda p: "high" if p >= 11 else "medium" if p >= 7 else "low", "Vincent et al., 1996"
    )
    return with_risk(result, lambda p: (0.8, 1.0) if p > 11 else None, "death in intensive care")


def sofa_platelets(v: float) -> int:
    return below(v, (20, 4), (50, 3), (100, 2), (150, 1), otherwise=0)


def sofa_bilirubin(v: float) -> int:
    """Returns the points for bilirubin in mg/dL.

    >>> sofa_bilirubin(1.9), sofa_bilirubin(32 / 17.1), sofa_bilirubin(33 / 17.1)
    (1, 1, 2)
    """
    if _measured_in_mg_dl(v):
        return below(v, (1.2, 0), (2, 1), (6, 2), (12, 3), otherwise=4)
    return below(round(v * _UMOL_PER_MG_DL_BILIRUBIN), (20, 0), (33, 1), (102, 2), (205, 3), otherwise=4)


def sofa_coma(v: float) -> int:
    return below(v, (6, 4), (10, 3), (13, 2), (15, 1), otherwise=0)


def sofa_creatinine(v: float) -> int:
    """Returns the points for creatinine in mg/dL.

    >>> sofa_creatinine(1.2), sofa_creatinine(109 / 88.4), sofa_creatinine(170 / 88.4), sofa_creatinine(171 / 88.4)
    (1, 0, 1, 2)
    """
    if _measured_in_mg_dl(v):
        return below(v, (1.2, 0), (2, 1), (3.5, 2), (5, 3), otherwise=4)
    return below(round(v * _UMOL_PER_MG_DL_CREATININE), (110, 0), (171, 1), (300, 2), (441, 3), otherwise=4)


def _measured_in_mg_dl(value: float) -> bool:
    """Whether a value in mg/dL was measured so: with at most two decimals. Others were converted from µmol/L."""
    return abs(value - round(value, 2)) < 1e-6


def sofa_oxygenation(ratio: float, *, supported: bool) -> int:
    """Returns the points for PaO2/FiO2 in mmHg; at most 2 without respiratory support."""
    points = below(ratio, (100, 4), (200, 3), (300, 2), (400, 1), otherwise=0)
    return points if supported else min(points, 2)


def oxygenation(record: PatientRecord) -> float | None:
    """Returns the lowest PaO2/FiO2 (mmHg) of the past 24 hours; None without a blood gas with a known oxygen
    fraction."""
    since = record.prediction_time - _WINDOW
    gases = [m for m in record.measurements if m.concept == "pao2" and m.time >= since]
    settings = [m for m in record.measurements if m.concept == "fio2"]
    ratios = [m.value for m in record.measurements if m.concept == "pao2_fio2" and m.time >= since]
    for gas in gases:
        before = [s for s in settings if gas.time - _SETTING_HOLDS <= s.time <= gas.time]
        if before:
            fraction = max(before, key=lambda s: s.time).value
            ratios.append(gas.value / (max(fraction, _AMBIENT_AIR) / 100))
    return min(ratios, default=None)


def _respiration(record: PatientRecord, vector: FeatureVector) -> ScoreItem:
    ratio, supported = oxygenation(record), vector.number("mechanical_ventilation.last")
    if ratio is None:
        return ScoreItem("oxygenation (PaO2/FiO2)", "", None, 0, 4)
    value = f"{ratio:.0f} mmHg"
    most, fewest = sofa_oxygenation(ratio, supported=True), sofa_oxygenation(ratio, supported=False)
    # The absence of coded ventilation does not prove that there was none: masks and high flow are support too.
    if supported or most == fewest:
        return ScoreItem("oxygenation (PaO2/FiO2)", value, most)
    return ScoreItem("respiratory support", value, None, fewest, most)


def _circulation(record: PatientRecord, vector: FeatureVector) -> ScoreItem:
    pressure, given = lowest_mean_pressure(record, vector), vasopressor(record, record.prediction_time - _WINDOW)
    if given is Vasopressor.INFUSED:
        return ScoreItem("dose of vasopressors", "", None, 2, 4)
    known = not record.not_fetched & {"MedicationRequest", "MedicationStatement"}
    if not known or given is Vasopressor.POSSIBLE:
        return ScoreItem("vasopressors", "", None, int(pressure is not None and pressure < 70), 4)
    return item("mean arterial pressure", pressure, "mmHg", 1, lambda v: int(v < 70))


def lowest_mean_pressure(record: PatientRecord, vector: FeatureVector) -> float | None:
    """Returns the lowest mean pressure in mmHg, as measured; else diastolic plus a third of the pulse pressure at the
    same time."""
    measured = vector.number("mean_bp.min_24h")
    if measured is not None:
        return measured
    since = record.prediction_time - _WINDOW
    recent = [m for m in record.measurements if m.time >= since]
    systolic = {m.time: m.value for m in recent if m.concept == "systolic_bp"}
    diastolic = {m.time: m.value for m in recent if m.concept == "diastolic_bp"}
    return min(((systolic[t] + 2 * diastolic[t]) / 3 for t in systolic.keys() & diastolic.keys()), default=None)


def daily_urine(vector: FeatureVector) -> float | None:
    """Returns urine in mL per 24 hours: as measured, else the sum of the past 24 hours if the stay has lasted that
    long."""
    daily = vector.number("daily_urine_output.last_24h")
    if daily is not None:
        return daily
    hours, mean, count = (
        vector.number(name)
        for name in ("hours_since_admission.last", "urine_output.mean_24h", "urine_output.count_24h")
    )
    if hours is None or hours < 24 or mean is None or count is None:
        return None
    return mean * count


def _kidney(vector: FeatureVector) -> ScoreItem:
    creatinine, urine = vector.number("creatinine.max_24h"), daily_urine(vector)
    by_urine = None if urine is None else below(urine, (200, 4), (500, 3), otherwise=0)
    if creatinine is None:
        return ScoreItem("creatinine", "", None, by_urine or 0, 4)
    points, value = sofa_creatinine(creatinine), f"{creatinine:g} mg/dL"
    if by_urine is None and points < 4:
        return ScoreItem("urine output", value, None, points, 4)
    return ScoreItem("creatinine and urine output", value, max(points, by_urine or 0))


def saps2(record: PatientRecord) -> ScoreResult | None:
    """SAPS II 0-163 (Le Gall et al., JAMA 1993;270:2957), with its probability of hospital death when complete.

    The publication takes the worst values of the first 24 hours of intensive care; this function those of the past 24,
    so the two agree at a prediction time of 24 hours. The type of admission (planned surgery 0, medical 6, unplanned
    surgery 8) is known only if the record says whether the admission was urgent and whether there was an operation; a
    coded procedure alone does not prove one.
    """
    vector = record.features()
    if not adult(vector, 18) or not vector.number("intensive_care.last"):
        return None

    def low(name: str) -> float | None:
        return vector.number(f"{name}.min_24h")

    def high(name: str) -> float | None:
        return vector.number(f"{name}.max_24h")

    urine = daily_urine(vector)
    items = [
        item("age", vector.number("age.last"), "years", 18, saps_age),
        worst("heart rate", low("heart_rate"), high("heart_rate"), "/min", 11, saps_pulse),
        worst("systolic pressure", low("systolic_bp"), high("systolic_bp"), "mmHg", 13, saps_pressure),
        item("temperature", high("temperature"), "°C", 3, lambda v: 3 if v >= 39 else 0),
        _saps_oxygenation(record, vector),
        item("urine output", urine, "mL", 11, lambda v: below(v, (500, 11), (1000, 4), otherwise=0)),
        item("urea nitrogen", high("bun"), "mg/dL", 10, lambda v: below(v, (28, 0), (84, 6), otherwise=10)),
        worst("white cells", low("wbc"), high("wbc"), "×10³/µL", 12, lambda v: below(v, (1, 12), (20, 0), otherwise=3)),
        worst("potassium", low("potassium"), high("potassium"), "mmol/L", 3, lambda v: 0 if 3 <= v < 5 else 3),
        worst(
            "sodium", low("sodium"), high("sodium"), "mmol/L", 5, lambda v: below(v, (125, 5), (145, 0), otherwise=1)
        ),
        item("bicarbonate", low("bicarbonate"), "mmol/L", 6, lambda v: below(v, (15, 6), (20, 3), otherwise=0)),
        item("bilirubin", high("bilirubin"), "mg/dL", 9, saps_bilirubin),
        item("Glasgow Coma Scale", low("gcs"), "", 26, saps_coma),
        _chronic(record),
        _admission(vector),
    ]
    result = total("SAPS II", 163, items, _saps_band, "Le Gall et al., JAMA 1993")
    return with_risk(result, _saps_risk, "death in hospital")


def _saps_risk(points: int) -> tuple[float, float]:
    return saps_mortality(points), saps_mortality(points)


def saps_mortality(score: int) -> float:
    """Returns the published probability of hospital death.

    >>> [round(saps_mortality(score), 3) for score in (0, 29, 52, 77)]
    [0.0, 0.097, 0.507, 0.905]
    """
    return 1 / (1 + math.exp(7.7631 - 0.0737 * score - 0.9971 * math.log(score + 1)))


def _saps_band(points: int) -> str:
    """Returns the band by the published probability of death: under 10 %, under 50 %, or more."""
    risk = saps_mortality(points)
    return "high" if risk >= 0.5 else "medium" if risk >= 0.1 else "low"


def saps_age(v: float) -> int:
    return below(v, (40, 0), (60, 7), (70, 12), (75, 15), (80, 16), otherwise=18)


def saps_pulse(v: float) -> int:
    return below(v, (40, 11), (70, 2), (120, 0), (160, 4), otherwise=7)


def saps_pressure(v: float) -> int:
    return below(v, (70, 13), (100, 5), (200, 0), otherwise=2)


def saps_bilirubin(v: float) -> int:
    """Returns the points for bilirubin in mg/dL; the table's edges in µmol/L are 68.4 and 102.6.

    >>> saps_bilirubin(3.9), saps_bilirubin(68.3 * 0.0584795), saps_bilirubin(68.4 * 0.0584795)
    (0, 0, 4)
    """
    if _measured_in_mg_dl(v):
        return below(v, (4, 0), (6, 4), otherwise=9)
    return below(round(v * _UMOL_PER_MG_DL_BILIRUBIN, 1), (68.4, 0), (102.6, 4), otherwise=9)


def saps_coma(v: float) -> int:
    return below(v, (6, 26), (9, 13), (11, 7), (14, 5), otherwise=0)


def _saps_oxygenation(record: PatientRecord, vector: FeatureVector) -> ScoreItem:
    """Counts only under ventilation or continuous positive airway pressure."""
    name, ventilated, ratio = "oxygenation under ventilation", vector.number("mechanical_ventilation.last"), None
    if ventilated == 0:
        return ScoreItem(name, "not ventilated", 0)
    ratio = oxygenation(record)
    points = None if ratio is None else below(ratio, (100, 11), (200, 9), otherwise=6)
    if ventilated is None:
        return ScoreItem("ventilation", "", None, 0, 11 if points is None else points)
    return ScoreItem(name, "", None, 6, 11) if points is None else ScoreItem(name, f"{ratio:.0f} mmHg", points)


def _chronic(record: PatientRecord) -> ScoreItem:
    """Points of the heaviest of the three chronic diseases."""
    found = comorbidity_groups(record, Scheme.SAPS2)
    if found.unknown:
        return ScoreItem("chronic disease", "", None, max(found.weights.values(), default=0), 17)
    if not found.weights:
        return ScoreItem("chronic disease", "none recorded", 0)
    name = max(found.weights, key=lambda group: found.weights[group])
    return ScoreItem("chronic disease", name, found.weights[name])


def _admission(vector: FeatureVector) -> ScoreItem:
    acute, procedures = vector.number("acute_admission.last"), vector.number("procedure.count")
    if procedures == 0:
        return ScoreItem("type of admission", "medical", 6)
    fewest = 6 if acute else 0
    return ScoreItem("type of admission", "", None, fewest, 6 if acute == 0 else 8)
