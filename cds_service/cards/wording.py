"""Words and numbers of cards and pages: probabilities, ranges, outcomes and drivers as a clinician writes them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from cds_service.cards.escape import gfm, plain
from risk_model import IN_HOSPITAL_MORTALITY, Abnormality, Driver, Task

_RECORDED = "recorded"
# Shorter than the concept's label, as charts abbreviate them.
_SHORT: Mapping[str, str] = MappingProxyType(
    {
        "bun": "BUN", "gcs": "GCS", "wbc": "white cells", "alt": "ALT", "ast": "AST", "alp": "ALP", "ph": "pH",
        "inr": "INR", "bnp": "BNP", "hba1c": "HbA1c", "spo2": "SpO2", "sao2": "SaO2", "pao2": "PaO2", "paco2": "PaCO2",
        "fio2": "FiO2", "pao2_fio2": "PaO2/FiO2", "systolic_bp": "systolic pressure", "mean_bp": "mean pressure",
        "diastolic_bp": "diastolic pressure", "temperature": "temperature", "shock_index": "shock index",
        "bilirubin": "bilirubin", "bun_creatinine": "BUN to creatinine ratio",
    }
)  # fmt: skip
# Counts read better before the noun: (one, several).
_COUNTED: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "earlier_stay": ("earlier hospital stay", "earlier hospital stays"),
        "inpatient_stay": ("hospital stay in the past year", "hospital stays in the past year"),
        "emergency_visit": ("emergency visit in the past year", "emergency visits in the past year"),
        "outpatient_visit": ("outpatient visit in the past year", "outpatient visits in the past year"),
        "condition": ("active problem", "active problems"),
        "medication": ("medication", "medications"),
        "procedure": ("procedure", "procedures"),
    }
)
_PLAIN: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("mechanical_ventilation", "yes"): "ventilated",
        ("mechanical_ventilation", "no"): "not ventilated",
        ("acute_admission", "yes"): "emergency admission",
        ("acute_admission", "no"): "planned admission",
        ("intensive_care", "yes"): "in intensive care",
        ("admitted_from", "emergency department"): "admitted through the emergency department",
    }
)


def percent(probability: float) -> str:
    """
    >>> percent(0.004), percent(0.126), percent(0.997)
    ('less than 1 %', '13 %', 'more than 99 %')
    """
    if probability < 0.01:
        return "less than 1 %"
    return "more than 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def percent_range(low: float, high: float) -> str:
    """Returns a range of probabilities; one number where both ends read the same.

    >>> percent_range(0.09, 0.251), percent_range(0.126, 0.131), percent_range(0.004, 0.05), percent_range(0.5, 0.999)
    ('9–25 %', '13 %', 'up to 5 %', '50 % or more')
    """
    if percent(low) == percent(high):
        return percent(low)
    if low < 0.01:
        return f"up to {percent(high)}"
    return f"{percent(low)} or more" if high > 0.99 else f"{100 * low:.0f}–{percent(high)}"


def outcome_name(task: Task) -> str:
    """The outcome as cards and pages name it; the title of a site's own task.

    >>> from risk_model import TASKS
    >>> outcome_name(TASKS["in_hospital_mortality"]), outcome_name(TASKS["readmission_30d"])
    ('Hospital death', '30-day readmission')
    """
    return "Hospital death" if task.id == IN_HOSPITAL_MORTALITY else task.title


def counted(number: int, word: str) -> str:
    """
    >>> counted(1, "note"), counted(2, "note")
    ('1 note', '2 notes')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def lower_first(text: str) -> str:
    """Returns the text for the middle of a sentence; abbreviations and names keep their capitals.

    >>> lower_first("Heart failure"), lower_first("PaO2/FiO2"), lower_first("Glasgow Coma Scale"), lower_first("AIDS")
    ('heart failure', 'PaO2/FiO2', 'Glasgow Coma Scale', 'AIDS')
    """
    first, _, rest = text.partition(" ")
    second = rest[:1].isupper()
    return text if any(letter.isupper() for letter in first[1:]) or second else text[:1].lower() + text[1:]


def short_name(concept: str, label: str) -> str:
    """Returns the name of a concept as charts abbreviate it, else its label for the middle of a sentence.

    >>> short_name("bun", "Blood urea nitrogen"), short_name("lactate", "Lactate")
    ('BUN', 'lactate')
    """
    return _SHORT.get(concept) or lower_first(label)


def driver_words(driver: Driver, *, escaped: bool = True) -> str:
    """Returns a driver in few words, escaped for Markdown: name, newest value, and whether it is low or high.

    >>> driver_words(Driver("bun", "Blood urea nitrogen", "97.8 mg/dL (range 60 to 97.8)", 0.5, True))
    'BUN 97.8 mg/dL'
    >>> driver_words(Driver("albumin", "Albumin", "2.3 g/dL", 0.5, True, abnormal=Abnormality.LOW))
    'albumin 2.3 g/dL (low)'
    >>> driver_words(Driver("earlier_stay", "Earlier hospital stays on record", "2", 0.5, False))
    '2 earlier hospital stays'
    >>> driver_words(Driver("heart_failure", "Heart failure", "recorded", 0.5, False))
    'heart failure'
    >>> driver_words(Driver("age", "Age", "83 years", 0.5, False))
    'age 83'
    >>> driver_words(Driver("length_of_stay", "Length of stay", "12.71 days", 0.5, False))
    '13 days in hospital'
    """
    # The range of a stay is in the app; the card has the newest value.
    value = driver.value.partition(" (range ")[0]
    words = _PLAIN.get((driver.concept, value)) or _by_kind(driver, value)
    return (gfm if escaped else plain)(words, 80)


def _by_kind(driver: Driver, value: str) -> str:
    if driver.concept in _COUNTED:
        return _count(value, *_COUNTED[driver.concept])
    label = short_name(driver.concept, driver.label)
    if value == _RECORDED:
        return label
    if driver.concept == "age":
        return f"age {value.removesuffix(' years')}"
    if driver.concept == "sex":
        return f"{value} sex"
    days = value.removesuffix(" days")
    if driver.concept == "length_of_stay" and days.replace(".", "", 1).isdigit():
        return f"{float(days):.0f} days in hospital"
    if driver.concept == "discharged_to":
        return f"going {value}" if value.startswith("home") else f"going to {value}"
    if driver.concept == "admitted_from":
        return f"from {value}"
    flag = f" ({driver.abnormal})" if driver.abnormal in {Abnormality.LOW, Abnormality.HIGH} else ""
    return f"{label} {value}{flag}"


def _count(value: str, one: str, several: str) -> str:
    """
    >>> _count("0", "procedure", "procedures"), _count("1", "procedure", "procedures")
    ('no procedures', '1 procedure')
    """
    return f"no {several}" if value == "0" else f"{value} {one if value == '1' else several}"
