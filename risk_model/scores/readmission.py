"""LACE and HOSPITAL, the established readmission scores, for adults at discharge."""

from __future__ import annotations

from fhir_mapping import PatientRecord
from fhir_mapping.record import active_groups, is_pregnant
from fhir_mapping.terminology import diagnosis_table
from risk_model.core.values import ScoreResult
from risk_model.scores.items import ScoreItem, adult, flag, item, steps, total, with_risk

# Expected probability of death or unplanned readmission in 30 days for LACE 0..19 (van Walraven, CMAJ 2010;182:551).
# Three of the twenty are verified: the abstract gives both ends (PMID 20194559), and 12.2 % at 10 is widely cited. No
# public copy of the rest was found. LACE is a logistic model in points, and the logistic curve through the two ends
# gives 12.2 % at 10 and, within 0.13 points, every other value here; the tests check this. The points agree in three
# independent sources (BMC Cardiovasc Disord 2014;14:97, table 1; the R package cliot; medcalcu.com).
LACE_EXPECTED = (
    0.020, 0.025, 0.030, 0.035, 0.043, 0.051, 0.061, 0.073, 0.087, 0.103,
    0.122, 0.143, 0.170, 0.198, 0.230, 0.266, 0.304, 0.346, 0.391, 0.437,
)  # fmt: skip
# Potentially avoidable readmission by HOSPITAL band, international validation (Donzé, JAMA Intern Med 2016;176:496).
HOSPITAL_BANDS = ((4, "low", 0.058), (6, "intermediate", 0.119), (13, "high", 0.228))
_ONCOLOGY_SERVICES = frozenset({"394593009", "394592004", "394594003"})


def lace(record: PatientRecord) -> ScoreResult | None:
    """LACE score 0-19 (van Walraven et al., CMAJ 2010;182:551); high from 10. None without an adult inpatient stay.

    Its patients were medical and surgical, so there is none in pregnancy. Comorbidities use LACE's own Charlson
    weights; 4 or more count 5 points.
    """
    vector = record.features()
    if not adult(vector, 18) or record.current_stay is None or is_pregnant(record):
        return None
    days = vector.number("length_of_stay.last")
    # Whole days: in the score's own data a stay of 36 hours is "1 day".
    stay = item("length of stay", None if days is None else float(int(days)), "days", 7, _lace_days)
    acute = flag("emergency admission", vector.number("acute_admission.last"), 3)
    visits = vector.number("emergency_visit.count_180d")
    emergency = item("emergency visits in 6 months", visits, "", 4, lambda v: min(4, int(v)))
    result = total(
        "LACE",
        19,
        [stay, acute, _lace_comorbidity(record), emergency],
        lambda p: "high" if p >= 10 else "moderate" if p >= 5 else "low",
        "van Walraven et al., CMAJ 2010",
    )
    return with_risk(result, _lace_risk, "death or unplanned readmission within 30 days")


def _lace_risk(points: int) -> tuple[float, float]:
    return LACE_EXPECTED[points], LACE_EXPECTED[points]


def _lace_days(days: float) -> int:
    return steps(days, (0, 0), (1, 1), (2, 2), (3, 3), (6, 4), (13, 5), otherwise=7)


def _lace_comorbidity(record: PatientRecord) -> ScoreItem:
    if "Condition" in record.not_fetched:
        return ScoreItem("comorbidities", "", None, 0, 5)
    table = diagnosis_table()
    found = set(active_groups(record))
    for group, others in table.over.items():
        if group in found:
            found -= set(others)
    weight = sum(table.groups[name].lace for name in found)
    labels = sorted(table.groups[name].label.lower() for name in found if table.groups[name].lace)
    return ScoreItem("comorbidities", ", ".join(labels) or "none recorded", weight if weight < 4 else 5)


def hospital_score(record: PatientRecord) -> ScoreResult | None:
    """HOSPITAL score 0-13 (Donzé et al., JAMA Intern Med 2013;173:632), with the last haemoglobin and sodium of the
    stay.

    The published risk is that of potentially avoidable readmission, by band; readmissions of any kind are more.
    """
    vector = record.features()
    if not adult(vector, 18) or record.current_stay is None or is_pregnant(record):
        return None
    items = [
        item("haemoglobin", vector.number("hemoglobin.last"), "g/dL", 1, lambda v: int(v < 12)),
        _oncology(record),
        item("sodium", vector.number("sodium.last"), "mmol/L", 1, lambda v: int(v < 135)),
        item("procedures in this stay", vector.number("procedure.count"), "", 1, lambda v: int(v > 0)),
        flag("non-elective admission", vector.number("acute_admission.last"), 1),
        item(
            "admissions in the year before",
            vector.number("inpatient_stay.count_365d"),
            "",
            5,
            lambda v: steps(v, (1, 0), (5, 2), otherwise=5),
        ),
        item("length of stay", vector.number("length_of_stay.last"), "days", 2, lambda v: 2 if v >= 5 else 0),
    ]
    result = total("HOSPITAL", 13, items, _hospital_band, "Donzé et al., JAMA Intern Med 2016")
    return with_risk(result, _hospital_risk, "potentially avoidable readmission within 30 days")


def _hospital_band(points: int) -> str:
    return next(band for bound, band, _ in HOSPITAL_BANDS if points <= bound)


def _hospital_risk(points: int) -> tuple[float, float]:
    return next((risk, risk) for bound, _, risk in HOSPITAL_BANDS if points <= bound)


def _oncology(record: PatientRecord) -> ScoreItem:
    """Discharge from an oncology service: coded, or excluded by a fetched problem list without any tumour."""
    stay = record.current_stay
    if stay is not None and any(coding.code in _ONCOLOGY_SERVICES for coding in stay.codings):
        return ScoreItem("oncology service", "yes", 2)
    if "Condition" in record.not_fetched or {"tumour", "metastatic"} & set(active_groups(record)):
        return ScoreItem("oncology service", "", None, 0, 2)
    return ScoreItem("oncology service", "no tumour recorded", 0)
