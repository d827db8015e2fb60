"""LACE, HOSPITAL, NEWS2 and qSOFA: comparators beside every estimate, each with its missing inputs.

A score with an input missing is a range from the fewest to the most points that input could give: unknown is never
normal. Each is for adults; without an adult age there is no score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fhir_mapping import FeatureVector, PatientRecord
from risk_model.tables import active_groups, diagnosis_table, pregnant
from risk_model.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.values import ScoreResult

# Expected probability of death or unplanned readmission in 30 days for LACE 0..19 (van Walraven, CMAJ 2010;182:551).
# Checked against the paper's abstract at both ends and its widely cited 12.2 % at 10. The table between could not be
# read again, so the tests check that every value lies within a tenth of a per cent point of one logistic curve.
LACE_EXPECTED = (
    0.020, 0.025, 0.030, 0.035, 0.043, 0.051, 0.061, 0.073, 0.087, 0.103,
    0.122, 0.143, 0.170, 0.198, 0.230, 0.266, 0.304, 0.346, 0.391, 0.437,
)  # fmt: skip
# Potentially avoidable readmission by HOSPITAL band, international validation (Donzé, JAMA Intern Med 2016;176:496).
HOSPITAL_BANDS = ((4, "low", 0.058), (6, "intermediate", 0.119), (13, "high", 0.228))
_ONCOLOGY_SERVICES = frozenset({"394593009", "394592004", "394594003"})


@dataclass(frozen=True, slots=True)
class _Item:
    """One input: its points when known, else the fewest and most it could give."""

    name: str
    value: str
    points: int | None
    fewest: int = 0
    most: int = 0


def _total(
    name: str,
    maximum: int,
    items: Sequence[_Item],
    band: Callable[[int], str],
    source: str,
    worst_band: Callable[[int], str] | None = None,
) -> ScoreResult:
    """The sum over `items`. `worst_band` is the band at the high end, where a missing input may change its rule."""
    known = [item for item in items if item.points is not None]
    base = sum(item.points or 0 for item in known)
    missing = [item for item in items if item.points is None]
    low, high = base + sum(item.fewest for item in missing), base + sum(item.most for item in missing)
    at_least, at_most = band(low), (worst_band or band)(high)
    return ScoreResult(
        name=name,
        low=low,
        high=high,
        maximum=maximum,
        band=at_least if at_least == at_most else None,
        missing=tuple(item.name for item in missing),
        inputs=tuple((item.name, item.value, item.points or 0) for item in known),
        source=source,
    )


def _steps(value: float, *steps: tuple[float, int], otherwise: int) -> int:
    """Points of the first step whose upper bound (inclusive) holds `value`.

    >>> _steps(25, (8, 3), (11, 1), (20, 0), (24, 2), otherwise=3)
    3
    """
    return next((points for bound, points in steps if value <= bound), otherwise)


def _item(name: str, value: float | None, unit: str, most: int, points: Callable[[float], int]) -> _Item:
    if value is None:
        return _Item(name, "", None, 0, most)
    return _Item(name, f"{value:g} {unit}".strip(), points(value))


def lace(record: PatientRecord) -> ScoreResult | None:
    """LACE 0-19 (van Walraven et al., CMAJ 2010;182:551); high from 10. None without an adult inpatient stay.

    Its patients were medical and surgical: in pregnancy there is none either. Comorbidities carry LACE's own Charlson
    weights; 4 or more weigh 5 points.
    """
    vector = record.features()
    if not _adult(vector, 18) or record.current_stay is None or pregnant(record):
        return None
    days = vector.number("length_of_stay.last")
    # Whole days: a stay of 36 hours is "1 day" in the score's own data.
    stay = _item("length of stay", None if days is None else float(int(days)), "days", 7, _lace_days)
    acute = _item("emergency admission", vector.number("acute_admission.last"), "", 3, lambda v: 3 if v else 0)
    acute = _named(acute, {"1": "yes", "0": "no"})
    visits = vector.number("emergency_visit.count_180d")
    emergency = _item("emergency visits in 6 months", visits, "", 4, lambda v: min(4, int(v)))
    result = _total(
        "LACE",
        19,
        [stay, acute, _lace_comorbidity(record), emergency],
        lambda p: "high" if p >= 10 else "moderate" if p >= 5 else "low",
        "van Walraven et al., CMAJ 2010",
    )
    if result.complete:
        return _with_risk(result, LACE_EXPECTED[result.low])
    return result


def _lace_days(days: float) -> int:
    return _steps(days, (0, 0), (1, 1), (2, 2), (3, 3), (6, 4), (13, 5), otherwise=7)


def _lace_comorbidity(record: PatientRecord) -> _Item:
    if "Condition" in record.not_fetched:
        return _Item("comorbidities", "", None, 0, 5)
    table = diagnosis_table()
    found = set(active_groups(record))
    for group, others in table.over.items():
        if group in found:
            found -= set(others)
    weight = sum(table.groups[name].lace for name in found)
    labels = sorted(table.groups[name].label.lower() for name in found if table.groups[name].lace)
    return _Item("comorbidities", ", ".join(labels) or "none recorded", weight if weight < 4 else 5)


def hospital_score(record: PatientRecord) -> ScoreResult | None:
    """HOSPITAL 0-13 (Donzé et al., JAMA Intern Med 2013;173:632): haemoglobin and sodium are the last of the stay.

    `expected_risk` is that of potentially avoidable readmission for the band.
    """
    vector = record.features()
    if not _adult(vector, 18) or record.current_stay is None or pregnant(record):
        return None
    items = [
        _item("haemoglobin", vector.number("hemoglobin.last"), "g/dL", 1, lambda v: int(v < 12)),
        _oncology(record),
        _item("sodium", vector.number("sodium.last"), "mmol/L", 1, lambda v: int(v < 135)),
        _item("procedures in this stay", vector.number("procedure.count"), "", 1, lambda v: int(v > 0)),
        _named(
            _item("non-elective admission", vector.number("acute_admission.last"), "", 1, lambda v: int(v > 0)),
            {"1": "yes", "0": "no"},
        ),
        _item(
            "admissions in the year before",
            vector.number("inpatient_stay.count_365d"),
            "",
            5,
            lambda v: _steps(v, (1, 0), (5, 2), otherwise=5),
        ),
        _item("length of stay", vector.number("length_of_stay.last"), "days", 2, lambda v: 2 if v >= 5 else 0),
    ]
    result = _total("HOSPITAL", 13, items, _hospital_band, "Donzé et al., JAMA Intern Med 2016")
    risk = next((risk for _, band, risk in HOSPITAL_BANDS if band == result.band), None)
    return _with_risk(result, risk) if result.complete and risk is not None else result


def _hospital_band(points: int) -> str:
    return next(band for bound, band, _ in HOSPITAL_BANDS if points <= bound)


def _oncology(record: PatientRecord) -> _Item:
    """Discharge from an oncology service: coded, or ruled out by a fetched problem list without any tumour."""
    stay = record.current_stay
    if stay is not None and any(coding.code in _ONCOLOGY_SERVICES for coding in stay.codings):
        return _Item("oncology service", "yes", 2)
    if "Condition" in record.not_fetched or {"tumour", "metastatic"} & set(active_groups(record)):
        return _Item("oncology service", "", None, 0, 2)
    return _Item("oncology service", "no tumour recorded", 0)


def news2(record: PatientRecord) -> ScoreResult | None:
    """NEWS2 0-20 (Royal College of Physicians 2017), oxygen scale 1, from the last values of the past 24 hours.

    None under 16 and in pregnancy, for which it is not meant.
    """
    vector = record.features()
    if not _adult(vector, 16) or pregnant(record):
        return None
    recent = {name: vector.number(f"{name}.last_24h") for name in _NEWS_NAMES}
    items = [
        _item("respiratory rate", recent["respiratory_rate"], "/min", 3, _news_respiration),
        _item("oxygen saturation", recent["spo2"], "%", 3, lambda v: _steps(v, (91, 3), (93, 2), (95, 1), otherwise=0)),
        _oxygen(recent),
        _item("systolic pressure", recent["systolic_bp"], "mmHg", 3, _news_pressure),
        _item("heart rate", recent["heart_rate"], "/min", 3, _news_pulse),
        _awareness(record, vector),
        _item("temperature", recent["temperature"], "°C", 3, _news_temperature),
    ]
    extreme = any(item.points == 3 for item in items)
    # A missing input could be the single 3 that lifts a low total to "low-medium".
    could_be = extreme or any(item.points is None and item.most >= 3 for item in items)
    return _total(
        "NEWS2",
        20,
        items,
        lambda p: _news_band(p, extreme=extreme),
        "Royal College of Physicians 2017",
        lambda p: _news_band(p, extreme=could_be),
    )


def _news_band(points: int, *, extreme: bool) -> str:
    """Band of a total; `extreme` when a single input gives 3 points.

    >>> _news_band(3, extreme=True), _news_band(3, extreme=False), _news_band(6, extreme=True)
    ('low-medium', 'low', 'medium')
    """
    return "high" if points >= 7 else "medium" if points >= 5 else "low-medium" if extreme else "low"


_NEWS_NAMES = ("respiratory_rate", "spo2", "oxygen_flow", "fio2", "systolic_bp", "heart_rate", "temperature", "gcs")


def _news_respiration(v: float) -> int:
    return _steps(v, (8, 3), (11, 1), (20, 0), (24, 2), otherwise=3)


def _news_pressure(v: float) -> int:
    return _steps(v, (90, 3), (100, 2), (110, 1), (219, 0), otherwise=3)


def _news_pulse(v: float) -> int:
    return _steps(v, (40, 3), (50, 1), (90, 0), (110, 1), (130, 2), otherwise=3)


def _news_temperature(v: float) -> int:
    return _steps(v, (35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), otherwise=2)


def _oxygen(recent: dict[str, float | None]) -> _Item:
    flow, fraction = recent["oxygen_flow"], recent["fio2"]
    if flow is None and fraction is None:
        return _Item("air or oxygen", "", None, 0, 2)
    given = (flow or 0) > 0 or (fraction or 21) > 21.5
    return _Item("air or oxygen", "oxygen" if given else "air", 2 if given else 0)


def _awareness(record: PatientRecord, vector: FeatureVector) -> _Item:
    word, score = vector.word("consciousness.last"), vector.number("gcs.last_24h")
    if word is not None and record.consciousness is not None:
        hours = (record.prediction_time - record.consciousness[1]).total_seconds() / 3600
        if hours <= 24:
            return _Item("consciousness", word, 0 if word == "alert" else 3)
    if score is not None:
        return _Item("consciousness", f"Glasgow Coma Scale {score:g}", 0 if score >= 15 else 3)
    return _Item("consciousness", "", None, 0, 3)


def qsofa(record: PatientRecord) -> ScoreResult | None:
    """qSOFA 0-3 (Seymour et al., JAMA 2016;315:762) from the worst values of the past 24 hours."""
    vector = record.features()
    if not _adult(vector, 18):
        return None
    items = [
        _item("respiratory rate", vector.number("respiratory_rate.max_24h"), "/min", 1, lambda v: int(v >= 22)),
        _item("systolic pressure", vector.number("systolic_bp.min_24h"), "mmHg", 1, lambda v: int(v <= 100)),
        _item("Glasgow Coma Scale", vector.number("gcs.min_24h"), "", 1, lambda v: int(v < 15)),
    ]
    return _total("qSOFA", 3, items, lambda p: "high" if p >= 2 else "low", "Seymour et al., JAMA 2016")


def comparators(record: PatientRecord, task: str) -> tuple[ScoreResult, ...]:
    """The established scores for a task whose population fits this patient."""
    choices = {READMISSION_30D: (lace, hospital_score), IN_HOSPITAL_MORTALITY: (news2, qsofa)}[task]
    return tuple(result for score in choices if (result := score(record)) is not None)


def _adult(vector: FeatureVector, years: int) -> bool:
    age = vector.number("age.last")
    return age is not None and age >= years


def _named(item: _Item, words: dict[str, str]) -> _Item:
    return _Item(item.name, words.get(item.value, item.value), item.points, item.fewest, item.most)


def _with_risk(result: ScoreResult, risk: float) -> ScoreResult:
    return replace(result, expected_risk=risk)
