"""NEWS2, MEWS and qSOFA, the bedside scores of deterioration, from the values of the past 24 hours."""

from __future__ import annotations

from typing import Literal

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.record import is_pregnant
from risk_model.core.values import ScoreResult
from risk_model.scores.items import ScoreItem, adult, below, item, steps, total, with_risk


def news2(record: PatientRecord, *, scale: Literal[1, 2] = 1) -> ScoreResult | None:
    """NEWS2 0-20 (Royal College of Physicians 2017) from the last values of the past 24 hours.

    None under 16 years and in pregnancy, for which it is not intended. `scale=2` is for hypercapnic respiratory failure
    with a prescribed target of 88-92 %; a clinician decides that, so no code of the record selects it.

    Published is the risk of death within 24 hours, which is no risk of death in hospital: 0.07 % below 3 points and
    7.8 % from 7 points in a review of 121 papers, which calls longer prediction unreliable (Holland and Kellett, Eur J
    Intern Med 2022;98:15, abstract). It gives no risk from 3 to 6 points.
    """
    vector = record.features()
    if not adult(vector, 16) or is_pregnant(record):
        return None
    recent = {name: vector.number(f"{name}.last_24h") for name in _NEWS_NAMES}
    oxygen = _oxygen(recent)
    items = [
        item("respiratory rate", recent["respiratory_rate"], "/min", 3, _news_respiration),
        _saturation(recent["spo2"]) if scale == 1 else _saturation_2(recent["spo2"], oxygen),
        oxygen,
        item("systolic pressure", recent["systolic_bp"], "mmHg", 3, _news_pressure),
        item("heart rate", recent["heart_rate"], "/min", 3, _news_pulse),
        _awareness(record, vector),
        item("temperature", recent["temperature"], "°C", 3, _news_temperature),
    ]
    extreme = any(part.points == 3 for part in items)
    # A missing input could be the single 3 that raises a low total to "low-medium".
    could_be = extreme or any(part.points is None and part.most >= 3 for part in items)
    result = total(
        "NEWS2" if scale == 1 else "NEWS2 (scale 2)",
        20,
        items,
        lambda p: _news_band(p, extreme=extreme),
        "Royal College of Physicians 2017",
        lambda p: _news_band(p, extreme=could_be),
    )
    return with_risk(result, news2_risk, "death within 24 hours")


def news2_risk(points: int) -> tuple[float, float] | None:
    """Returns the published risk of death within 24 hours; None from 3 to 6 points, for which there is none."""
    if points < 3:
        return 0.0007, 0.0007
    return (0.078, 0.078) if points >= 7 else None


def _news_band(points: int, *, extreme: bool) -> str:
    """Returns the band of a total; `extreme` if a single input gives 3 points.

    >>> _news_band(3, extreme=True), _news_band(3, extreme=False), _news_band(6, extreme=True)
    ('low-medium', 'low', 'medium')
    """
    return "high" if points >= 7 else "medium" if points >= 5 else "low-medium" if extreme else "low"


_NEWS_NAMES = ("respiratory_rate", "spo2", "oxygen_flow", "fio2", "systolic_bp", "heart_rate", "temperature", "gcs")


def _saturation(spo2: float | None) -> ScoreItem:
    return item("oxygen saturation", spo2, "%", 3, lambda v: steps(v, (91, 3), (93, 2), (95, 1), otherwise=0))


def _saturation_2(spo2: float | None, oxygen: ScoreItem) -> ScoreItem:
    """Scale 2: saturations above the target score only while oxygen is given."""
    name = "oxygen saturation"
    if spo2 is None or spo2 <= 92:
        return item(name, spo2, "%", 3, lambda v: steps(v, (83, 3), (85, 2), (87, 1), otherwise=0))
    too_much = steps(spo2, (94, 1), (96, 2), otherwise=3)
    if oxygen.points is None:
        return ScoreItem(f"{name}: air or oxygen", "", None, 0, too_much)
    return ScoreItem(name, f"{spo2:g} %", too_much if oxygen.points else 0)


def _news_respiration(v: float) -> int:
    return steps(v, (8, 3), (11, 1), (20, 0), (24, 2), otherwise=3)


def _news_pressure(v: float) -> int:
    return steps(v, (90, 3), (100, 2), (110, 1), (219, 0), otherwise=3)


def _news_pulse(v: float) -> int:
    return steps(v, (40, 3), (50, 1), (90, 0), (110, 1), (130, 2), otherwise=3)


def _news_temperature(v: float) -> int:
    return steps(v, (35.0, 3), (36.0, 1), (38.0, 0), (39.0, 1), otherwise=2)


def _oxygen(recent: dict[str, float | None]) -> ScoreItem:
    flow, fraction = recent["oxygen_flow"], recent["fio2"]
    if flow is None and fraction is None:
        return ScoreItem("air or oxygen", "", None, 0, 2)
    given = (flow or 0) > 0 or (fraction or 21) > 21.5
    return ScoreItem("air or oxygen", "oxygen" if given else "air", 2 if given else 0)


def _awareness(record: PatientRecord, vector: FeatureVector) -> ScoreItem:
    word, score = _recent_word(record, vector), vector.number("gcs.last_24h")
    if word is not None:
        return ScoreItem("consciousness", word, 0 if word == "alert" else 3)
    if score is not None:
        return ScoreItem("consciousness", f"Glasgow Coma Scale {score:g}", 0 if score >= 15 else 3)
    return ScoreItem("consciousness", "", None, 0, 3)


def _recent_word(record: PatientRecord, vector: FeatureVector) -> str | None:
    """Returns the coded level of consciousness, if it is from the past 24 hours."""
    word = vector.word("consciousness.last")
    if word is None or record.consciousness is None:
        return None
    return word if (record.prediction_time - record.consciousness[1]).total_seconds() <= 86_400 else None


def mews(record: PatientRecord) -> ScoreResult | None:
    """MEWS 0-14 (Subbe et al., QJM 2001;94:521) from the last values of the past 24 hours; high from 5.

    Its AVPU scale is not the Glasgow Coma Scale: 15 is alert and 3 unresponsive; anything between is unknown, and so is
    new confusion, which the scale does not have.
    """
    vector = record.features()
    if not adult(vector, 16) or is_pregnant(record):
        return None
    names = ("systolic_bp", "heart_rate", "respiratory_rate", "temperature")
    pressure, pulse, breaths, heat = (vector.number(f"{name}.last_24h") for name in names)
    items = [
        item("systolic pressure", pressure, "mmHg", 3, _mews_pressure),
        item("heart rate", pulse, "/min", 3, _mews_pulse),
        item(
            "respiratory rate", breaths, "/min", 3, lambda v: below(v, (9, 2), (15, 0), (21, 1), (30, 2), otherwise=3)
        ),
        item("temperature", heat, "°C", 2, lambda v: below(v, (35, 2), (38.5, 0), otherwise=2)),
        _avpu(record, vector),
    ]
    return total("MEWS", 14, items, lambda p: "high" if p >= 5 else "low", "Subbe et al., QJM 2001")


def _mews_pressure(v: float) -> int:
    return steps(v, (70, 3), (80, 2), (100, 1), otherwise=0) if v < 200 else 2


def _mews_pulse(v: float) -> int:
    return steps(v, (40, 2), (50, 1), (100, 0), (110, 1), otherwise=2) if v < 130 else 3


_AVPU = {"alert": 0, "voice": 1, "pain": 2, "unresponsive": 3}


def _avpu(record: PatientRecord, vector: FeatureVector) -> ScoreItem:
    word, score = _recent_word(record, vector), vector.number("gcs.last_24h")
    if word in _AVPU:
        return ScoreItem("consciousness (AVPU)", str(word), _AVPU[str(word)])
    if word is None and score in {3, 15}:
        return ScoreItem("consciousness (AVPU)", f"Glasgow Coma Scale {score:g}", 3 if score == 3 else 0)
    return ScoreItem("consciousness (AVPU)", "", None, 0, 3)


def qsofa(record: PatientRecord) -> ScoreResult | None:
    """qSOFA 0-3 (Seymour et al., JAMA 2016;315:762) from the worst values of the past 24 hours."""
    vector = record.features()
    if not adult(vector, 18):
        return None
    items = [
        item("respiratory rate", vector.number("respiratory_rate.max_24h"), "/min", 1, lambda v: int(v >= 22)),
        item("systolic pressure", vector.number("systolic_bp.min_24h"), "mmHg", 1, lambda v: int(v <= 100)),
        item("Glasgow Coma Scale", vector.number("gcs.min_24h"), "", 1, lambda v: int(v < 15)),
    ]
    return total("qSOFA", 3, items, lambda p: "high" if p >= 2 else "low", "Seymour et al., JAMA 2016")
