"""The TRIPOD+AI checklist (Collins et al., BMJ 2024;385:e078378), filled by the run as far as a run can know.

What only people can say (aim, ethics, funding, patients' part in the study) is left to them, in so many words: an empty
item must not look filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TO_WRITE = "To be written by the authors."


@dataclass(frozen=True, slots=True)
class ChecklistItem:
    number: str
    asks: str
    answer: str


# number, what the item asks for (our words), key of the facts or metrics that answers it
_ITEMS = (
    ("1", "Title: development or evaluation, of which model, population and outcome", "title"),
    ("2", "Abstract by TRIPOD+AI for Abstracts", None),
    ("3a", "Health context and reason for the model", None),
    ("3b", "Target population, purpose, users", "purpose"),
    ("3c", "Known health inequalities between groups", None),
    ("4", "Objectives: development, evaluation or both", "objective"),
    ("5a", "Sources of data, and why they are representative", "source"),
    ("5b", "Dates: accrual, end of follow-up", "dates"),
    ("6a", "Setting: number and location of centres", None),
    ("6b", "Eligibility", "eligibility"),
    ("6c", "Treatments received, and how they were handled", "treatments"),
    ("7", "Data preparation and quality checks, the same across groups", "preparation"),
    ("8a", "Outcome, its horizon, how and when assessed", "outcome"),
    ("8b", "Qualification of the assessors of the outcome, if subjective", "assessors"),
    ("8c", "Blinding of the assessment", "blinding"),
    ("9a", "How the first choice of predictors was made", "predictors"),
    ("9b", "Definition of predictors, how and when measured", "measured"),
    ("9c", "Qualification of the assessors of the predictors, if subjective", "assessors"),
    ("10", "Sample size and how it was arrived at", "size"),
    ("11", "Missing data and how they were handled", "missing"),
    ("12a", "How the data were used: partitions", "partition"),
    ("12b", "Handling of predictors: form, transformation", "handling"),
    ("12c", "Type of model, building steps, tuning, internal validation", "model"),
    ("12d", "Heterogeneity between clusters (hospitals, countries)", None),
    ("12e", "Measures and plots of performance", "measures"),
    ("12f", "Updating of the model, if any", "updating"),
    ("12g", "For an evaluation: how predictions were calculated", "calculated"),
    ("13", "Class imbalance, if handled, and recalibration after", "imbalance"),
    ("14", "Fairness: approaches and their reasons", "fairness"),
    ("15", "Output of the model; classes and thresholds", "output"),
    ("16", "Differences between development and evaluation data", "differences"),
    ("17", "Ethical approval, consent", None),
    ("18a", "Funding and the role of funders", None),
    ("18b", "Conflicts of interest", None),
    ("18c", "Protocol, or that there is none", None),
    ("18d", "Registration, or that there is none", None),
    ("18e", "Availability of data", None),
    ("18f", "Availability of code", "code"),
    ("19", "Part of patients and the public in the study", None),
    ("20a", "Flow of participants, with and without the outcome; follow-up", "flow"),
    ("20b", "Characteristics, with missing data, by key groups", "characteristics"),
    ("20c", "For an evaluation: comparison with the development data", "differences"),
    ("21", "Participants and outcomes in each analysis", "flow"),
    ("22", "The full model, so that others can use it", "specification"),
    ("23a", "Performance with intervals, also in key groups", "performance"),
    ("23b", "Heterogeneity of performance between clusters", None),
    ("24", "Results of updating", "updating"),
    ("25", "Interpretation, with fairness and earlier studies", None),
    ("26", "Limitations: representativeness, size, missing data", "limitations"),
    ("27a", "How poor or missing input data are handled in use", "in_use"),
    ("27b", "What users must do and know", "users"),
    ("27c", "Next steps: applicability, generalisability", None),
)
_ALWAYS = {
    "treatments": "Not modelled: what was done after the prediction time is part of what is predicted.",
    "assessors": "Not applicable: taken from routine records, no judgement by the study.",
    "blinding": "Outcomes come from records made later than the prediction time; nothing later reaches the inputs.",
    "handling": "As measured, in fixed units; unknown stays unknown. Inputs that never vary are left out and named.",
    "model": "Gradient-boosted trees with fixed settings, five folds by patient, calibrated out of fold (Platt).",
    "missing": "Not imputed: trees have a branch for unknown; data gaps are shown; too little data is an abstention.",
    "imbalance": "Not handled: no resampling or weights; probabilities are calibrated.",
    "fairness": "Discrimination, calibration and coverage by age band, sex and, where recorded, race.",
    "output": "A probability with a rate interval and a prediction set; thresholds are a site's choice.",
    "code": "The riskcards project, open source.",
    "in_use": "Abstention outside the population or far from the training patients, with the reason; gaps are listed.",
    "users": "Nothing is entered by hand; the reader judges the estimate with the chart.",
    "specification": "The model folder: model.ubj, manifest with inputs, ranges and calibration, hashes of every file.",
    "updating": "None in this run.",
    "measures": "This report: discrimination, calibration, net benefit, alerts, coverage; 95 % by patient bootstrap.",
    "performance": "This report: figures, tables and subgroups.",
    "characteristics": "Subgroup table; inputs with the share known in the manifest.",
    "limitations": "As far as a run knows: size, data gaps and subgroups above. The rest by the authors.",
}


def checklist(metrics: Mapping[str, Any], facts: Mapping[str, str]) -> tuple[ChecklistItem, ...]:
    """All items; `facts` (from the caller) win over what the metrics and the method say."""
    known = {**_ALWAYS, **_measured(metrics), **facts}
    return tuple(
        ChecklistItem(number, asks, known.get(key, TO_WRITE) if key else TO_WRITE) for number, asks, key in _ITEMS
    )


def _measured(metrics: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    if {"rows", "patients"} <= metrics.keys():
        outcomes = f", {metrics['outcomes']} with the outcome" if "outcomes" in metrics else ""
        found["flow"] = f"{metrics['rows']} rows of {metrics['patients']} patients{outcomes}."
        found["size"] = f"All that were eligible: {metrics['rows']} rows; no calculation beforehand."
    if "measured_on" in metrics:
        found["partition"] = f"{str(metrics['measured_on']).capitalize()}."
    return found
