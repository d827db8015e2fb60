"""A record as the model's row of numbers: named inputs, NaN for unknown (never a default)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fhir_mapping import FeatureVector, PatientRecord
from fhir_mapping.record import active_groups
from fhir_mapping.resources import admission_source
from fhir_mapping.terminology import Scheme, definitions, diagnosis_table, drug_class_table, note_phrases, scheme_groups
from risk_model.core.tasks import IN_HOSPITAL_MORTALITY, READMISSION_30D
from risk_model.core.values import Abnormality
from risk_model.features.diseases import DISEASE, REASON, disease_inputs, disease_names, disease_sources, diseases
from risk_model.features.stay_history import HISTORY, earlier_stays, history
from risk_model.features.stay_medications import (
    PREFIX,
    STAY_MEDICATIONS,
    stay_medication_sources,
    stay_medications,
)
from risk_model.features.time_series import RATIOS, series_inputs, series_names

Row = NDArray[np.float32]

# Aggregates over 48 hours, and the trend. Counts are left out: how often a laboratory value is taken depends on the
# hospital, and a model that uses it does not transfer.
_AGGREGATES = ("last", "first", "min", "max", "mean", "slope")
_MORTALITY_CONCEPTS = (
    "heart_rate", "respiratory_rate", "systolic_bp", "diastolic_bp", "mean_bp", "temperature", "spo2", "fio2", "gcs",
    "urine_output", "weight", "sodium", "potassium", "bicarbonate", "bun", "creatinine",
    "glucose", "magnesium", "albumin", "bilirubin", "alt", "ast", "alp", "lactate", "troponin", "troponin_t", "ph",
    "pao2", "paco2", "sao2", "hematocrit", "wbc", "platelets",
)  # fmt: skip
_READMISSION_PLAIN = (
    "length_of_stay.last", "acute_admission.last", "inpatient_stay.count_365d", "emergency_visit.count_365d",
    "outpatient_visit.count_365d", "condition.count_up_to_9", "medication.count", "procedure.count_up_to_6",
)  # fmt: skip
# Upper limits of the forms behind the training data: 9 diagnoses there mean "9 or more", so longer lists are cut to 9.
_UP_TO = {"condition.count_up_to_9": ("condition.count", 9.0), "procedure.count_up_to_6": ("procedure.count", 6.0)}
# Values of `Stay.destination`.
DISCHARGED_TO = (
    "home", "home_care", "nursing", "rehabilitation", "long_term_care", "hospital", "psychiatric", "against_advice",
)  # fmt: skip
# Of 10 drugs or days, one more or less moves no estimate; of one, it does. An earlier stay is never halved.
_NEARLY_KNOWN = frozenset({"medication.count", "condition.count", "length_of_stay.last"})
_CLOSE = 0.2
_FACTS = (
    "age.last", "length_of_stay.last", "hours_since_admission.last", "acute_admission.last", "intensive_care.last",
    "mechanical_ventilation.last", "inpatient_stay.count_365d", "emergency_visit.count_365d",
    "outpatient_visit.count_365d", "condition.count", "medication.count", "procedure.count",
)  # fmt: skip
# Values of `fhir_mapping.resources.admission_source`.
ADMITTED_FROM = ("emergency", "hospital_transfer", "facility", "referral")
# Input of models fitted before nursing, rehabilitation and long-term care became separate; it is still computed for
# them.
_FORMERLY = {"facility": frozenset({"nursing", "rehabilitation", "long_term_care", "facility"})}


@cache
def input_names(task: str) -> tuple[str, ...]:
    """Returns the names of a task's inputs, in the order of the row."""
    if task == IN_HOSPITAL_MORTALITY:
        series = [f"{concept}.{aggregate}" for concept in _MORTALITY_CONCEPTS for aggregate in _AGGREGATES]
        more = series_names(_MORTALITY_CONCEPTS)
        return ("age.last", "sex.female", "hours_since_admission.last", "mechanical_ventilation.last", *series, *more)
    if task == READMISSION_30D:
        groups = [f"group.{name}" for name in diagnosis_table().groups]
        went = [f"discharged_to.{name}" for name in DISCHARGED_TO]
        came = [f"admitted_from.{place}" for place in ADMITTED_FROM]
        return ("age.last", "sex.female", *_READMISSION_PLAIN, *HISTORY, *groups, *came, *went, *disease_names())
    raise KeyError(task)


@cache
def record_facts() -> tuple[str, ...]:
    """Returns the inputs besides measurements: stays, use of care, comorbidities, drug classes."""
    comorbidities = [
        f"comorbidity_{s}_{g.slug}.last" for s in (Scheme.CHARLSON, Scheme.ELIXHAUSER) for g in scheme_groups(s)
    ]
    return (*_FACTS, *comorbidities, *(f"medication_{name}.last" for name in drug_class_table()))


def can_be_computed(name: str) -> bool:
    """Whether this version can compute an input of that name.

    >>> can_be_computed("sodium.slope"), can_be_computed("shoe_size.last")
    (True, False)
    """
    kind, _, rest = name.partition(".")
    if kind == "group":
        return rest in diagnosis_table().groups
    if kind == "admitted_from":
        return rest in ADMITTED_FROM
    if kind == "discharged_to":
        return rest in DISCHARGED_TO or rest in _FORMERLY
    listed = any(name in input_names(task) for task in (IN_HOSPITAL_MORTALITY, READMISSION_30D))
    counted = name in {whole for whole, _ in _UP_TO.values()} or name in record_facts()
    return (
        listed
        or counted
        or kind in definitions().concepts
        or name in _series_names()
        or name in {*HISTORY, *STAY_MEDICATIONS, *disease_names()}
    )


def row(record: PatientRecord, names: Sequence[str], vector: FeatureVector | None = None) -> Row:
    """Returns the row, shape (len(names),) float32; NaN marks an unknown input. `vector` avoids computing the features
    twice."""
    known = vector or record.features()
    values = {**_words(known), **_groups(record), **_disposition(record), **_came(record), **_computed(record, names)}
    values |= {name: _at_most(number(known, whole), most) for name, (whole, most) in _UP_TO.items()}
    numbers = [values[name] if name in values else number(known, name) for name in names]
    return np.array([np.nan if found is None else found for found in numbers], dtype=np.float32)


def number(vector: FeatureVector, name: str) -> float | None:
    """Returns an input's value; of a length or count known only to lie between close bounds, the middle.

    >>> from fhir_mapping import FeatureValue
    >>> def between(low: float, high: float) -> FeatureVector:
    ...     found = {f"medication.{n}": FeatureValue(v, "1", None, ()) for n, v in (("min", low), ("max", high))}
    ...     return FeatureVector("p", None, found, {}, ())
    >>> number(between(9.0, 10.0), "medication.count"), number(between(0.0, 1.0), "medication.count")
    (9.5, None)
    """
    value = vector.number(name)
    bounds = vector.bounds(name) if value is None and name in _NEARLY_KNOWN else None
    if bounds is None or bounds[1] - bounds[0] > _CLOSE * bounds[1]:
        return value
    return (bounds[0] + bounds[1]) / 2


def _at_most(number: float | None, most: float) -> float | None:
    return None if number is None else min(number, most)


def _computed(record: PatientRecord, names: Sequence[str]) -> dict[str, float | None]:
    """Returns inputs from time series, earlier stays and diseases, if asked for; None for unknown."""
    wanted = set(names)
    found: dict[str, float | None] = {}
    for every, compute in (
        (_series_names(), series_inputs),
        (HISTORY, history),
        (STAY_MEDICATIONS, stay_medications),
        (disease_names(), disease_inputs),
    ):
        if not wanted.isdisjoint(every):
            found |= dict.fromkeys(every) | compute(record)
    return found


@cache
def _series_names() -> tuple[str, ...]:
    return series_names(tuple(definitions().concepts))


def _words(vector: FeatureVector) -> dict[str, float | None]:
    sex = vector.word("sex.last")
    return {"sex.female": None if sex not in {"female", "male"} else float(sex == "female")}


def _came(record: PatientRecord) -> dict[str, float | None]:
    source = admission_source(record.current_stay) if record.current_stay else None
    return {f"admitted_from.{name}": None if source is None else float(source == name) for name in ADMITTED_FROM}


def _groups(record: PatientRecord) -> dict[str, float | None]:
    names = diagnosis_table().groups
    found = active_groups(record)
    fetched = "Condition" not in record.not_fetched
    return {f"group.{name}": float(name in found) if fetched or name in found else None for name in names}


def _disposition(record: PatientRecord) -> dict[str, float | None]:
    went = record.current_stay.destination if record.current_stay else None
    places = {place: frozenset({place}) for place in DISCHARGED_TO} | _FORMERLY
    return {f"discharged_to.{name}": None if went is None else float(went in meant) for name, meant in places.items()}


def sources(record: PatientRecord, name: str, vector: FeatureVector) -> tuple[str, ...]:
    """Returns the resources that an input came from; for `noted.` inputs pass the record and vector with values from
    notes."""
    name = name.removeprefix("noted.")
    name = _UP_TO.get(name, (name,))[0]
    if name in vector.values:
        return vector.values[name].sources
    ratio = RATIOS.get(concept_of(name))
    if ratio is not None:
        both = (vector.values.get(f"{concept}.last") for concept in (ratio.first, ratio.second))
        return tuple(source for value in both if value is not None for source in value.sources)
    if name in HISTORY and record.current_stay is not None:
        return tuple(stay.source for stay in earlier_stays(record, record.current_stay))
    if name.startswith(PREFIX):
        return stay_medication_sources(record, name)
    if name.startswith((REASON, DISEASE)):
        return disease_sources(record, name)
    if name.startswith("group."):
        return active_groups(record).get(name.partition(".")[2], ())
    return (
        (record.current_stay.source,)
        if name.startswith(("discharged_to.", "admitted_from.")) and record.current_stay
        else ()
    )


_DISEASES = frozenset({"group", "disease", "reason"})


def concept_of(name: str) -> str:
    """Returns the clinical concept of an input: `sodium.slope` and `sodium.min` are both sodium.

    >>> concept_of("sodium.min"), concept_of("group.anaemia"), concept_of("note.gcs.last")
    ('sodium', 'anaemia', 'note.gcs')
    >>> concept_of("reason.anaemia"), concept_of("finding.Heart Failure"), concept_of("noted.sodium.min")
    ('anaemia', 'finding.Heart Failure', 'sodium')
    """
    kind, _, rest = name.partition(".")
    if kind == "noted":
        return concept_of(rest)
    if kind in {"finding", "rubric"}:
        return name
    if kind == "note":
        return name.rpartition(".")[0]
    return rest if kind in _DISEASES else kind


def parts_of(name: str) -> tuple[str, ...]:
    """Returns the two concepts of a ratio, none for any other input.

    >>> parts_of("pao2_fio2.min"), parts_of("pao2.min")
    (('pao2', 'fio2'), ())
    """
    ratio = RATIOS.get(concept_of(name))
    return () if ratio is None else (ratio.first, ratio.second)


def gap_of(name: str) -> str:
    """Returns the name of the data gap of an unknown input: its concept, or all coded diseases as one."""
    return _CODED if name.startswith((REASON, DISEASE)) else concept_of(name)


def label_of(concept: str) -> str:
    """Returns a concept in the words of a clinician."""
    if concept.startswith("finding."):
        return f"{concept.removeprefix('finding.')}, as notes say"
    if concept.startswith("note."):
        stated = concept.removeprefix("note.")
        return f"{note_phrases().label(stated) or stated}, as notes say"
    if concept.startswith("rubric."):
        return f"{concept.rpartition('.')[2].replace('_', ' ').capitalize()}, by the rubric"
    if concept.startswith(PREFIX):
        return f"{drug_class_table()[concept.removeprefix(PREFIX)].label} in this stay"
    measured = definitions().concepts.get(concept)
    if measured is not None:
        return measured.label
    group = diagnosis_table().groups.get(concept)
    if group is None and concept in diseases():
        return diseases()[concept].label
    return group.label if group is not None else _LABELS.get(concept, concept.replace("_", " ").capitalize())


def describe_input(name: str) -> str:
    """Returns an input in words for model monitoring: its concept, then the aggregate.

    >>> describe_input("sodium.min_24h"), describe_input("reason.anaemia")
    ('Sodium: min 24h', 'Anemia: reason of the stay')
    """
    kind, _, what = name.partition(".")
    if kind == "noted":
        return f"{describe_input(what)}, from notes"
    label = label_of(concept_of(name))
    if kind in _DISEASES:
        return f"{label}: reason of the stay" if kind == "reason" else label
    return label if kind in {"finding", "note", "rubric"} or not what else f"{label}: {what.replace('_', ' ')}"


_CODED = "coded_diseases"
_LABELS = {
    _CODED: "Diseases by ICD code",
    "age": "Age",
    "sex": "Sex",
    "length_of_stay": "Length of stay",
    "hours_since_admission": "Hours since admission",
    "acute_admission": "Emergency admission",
    "inpatient_stay": "Hospital stays in the year before",
    "emergency_visit": "Emergency visits in the year before",
    "outpatient_visit": "Outpatient visits in the year before",
    "condition": "Number of active problems",
    "medication": "Number of medications",
    "procedure": "Procedures in this stay",
    "stage1": "What the notes say, estimated",
    "rationale_embedding": "Reasons found in the notes",
    "notes_embedding": "The notes, as a whole",
    "record_embedding": "The record, as a whole",
    "record_markdown_embedding": "The record, as a whole",
    "evidence_embedding": "The literature found",
    "admitted_from": "Admission source",
    "discharged_to": "Discharge destination",
    "earlier_stay": "Earlier hospital stays on record",
    "shock_index": "Shock index (heart rate / systolic pressure)",
    "pulse_pressure": "Pulse pressure",
    "bun_creatinine": "BUN to creatinine ratio",
}
# Departures that treatment corrects directly. A marker of illness (lactate, urea, a heart rate) is not modifiable: one
# treats what is behind it.
_TREATED: Mapping[str, frozenset[Abnormality]] = {
    **dict.fromkeys(
        ("sodium", "potassium", "glucose", "magnesium", "calcium", "ionized_calcium", "phosphate", "temperature"),
        frozenset({Abnormality.LOW, Abnormality.HIGH}),
    ),
    **dict.fromkeys(
        ("systolic_bp", "mean_bp", "spo2", "sao2", "pao2", "pao2_fio2", "hemoglobin", "hematocrit"),
        frozenset({Abnormality.LOW}),
    ),
    **dict.fromkeys(("paco2", "inr"), frozenset({Abnormality.HIGH})),
}
_CHANGEABLE_PLANS = frozenset({"medication", "discharged_to", "anaemia"})


def is_modifiable(concept: str, abnormal: Abnormality | None) -> bool:
    """Returns whether clinicians change this concept directly, in the direction it is abnormal.

    >>> is_modifiable("potassium", Abnormality.HIGH), is_modifiable("lactate", Abnormality.HIGH)
    (True, False)
    """
    return concept in _CHANGEABLE_PLANS or (abnormal is not None and abnormal in _TREATED.get(concept, frozenset()))


MODIFIABLE = frozenset(
    {
        "heart_rate", "respiratory_rate", "systolic_bp", "diastolic_bp", "mean_bp", "temperature", "spo2", "fio2",
        "urine_output", "sodium", "potassium", "bicarbonate", "glucose", "magnesium", "lactate", "ph", "pao2", "paco2",
        "sao2", "hematocrit", "platelets", "medication", "discharged_to", "anaemia", "creatinine", "bun", "albumin",
        "shock_index", "pulse_pressure", "pao2_fio2", "bun_creatinine",
    }
)  # fmt: skip
