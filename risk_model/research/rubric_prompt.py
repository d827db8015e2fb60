"""The prompt that asks a hospital's language model for a rubric, with example patients of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fhir_mapping import StayClass
from fhir_mapping.terminology import definitions
from risk_model.cohorts.labelled_cohort import LabelledCohort
from risk_model.cohorts.splits import share
from risk_model.core.errors import TrainingError
from risk_model.features.rubric_items import AGGREGATES

_HEAD = """\
You help to write a rubric: a list of questions that estimate, from a patient's electronic record, how likely this
outcome is: {outcome}. A program will answer the questions by the rules you give, without a language model, so every
question must be one that these rules can answer.

Below are {count} example patients as known at the moment of prediction, half of them with the outcome. Find what sets
the two apart in general; do not describe single patients, and copy no names, dates or numbers of theirs.

Answer with one YAML document in a fenced block and nothing else:

```yaml
rubric: 1
task: {task}
title: a line of your own
author: the name of your model
items:
  - id: lactate_high
    question: Is the highest lactate of the last day above 2 mmol/L?
    type: yes/no
    read: {{concept: lactate, aggregate: max, within: 24 h, above: 2}}
  - id: heart_failure
    question: Is heart failure among the conditions?
    type: yes/no
    read: {{conditions: {{words: [heart failure], codes: [{{system: icd10cm, prefixes: [I50]}}]}}}}
  - id: earlier_stays
    question: How many inpatient stays began in the last year?
    type: count
    read: {{stays: inpatient, within: 365 d}}
  - id: kidney
    question: How high is the latest creatinine, in steps of 1.2, 2 and 3.5 mg/dL?
    type: level
    read: {{concept: creatinine, aggregate: last, levels: [1.2, 2, 3.5]}}
```

Rules. `type` is yes/no, count, level or number. `read` holds exactly one of:
- concept, with aggregate ({aggregates}) and, if wanted, within. A yes/no needs below, above, at_least or at_most; a
  level needs levels, rising thresholds.
- conditions, medications or procedures: words (of the text, from the beginning of a word), codes (system icd10cm,
  icd9cm, snomed or rxnorm with codes or prefixes), or any: true for all of them; active: true for those that still
  hold (not procedures).
- stays: {classes}.
- findings: names of what is present in the notes.
`within` looks back from the prediction time: 24 h, 30 d, 1 y. Between 15 and 40 items are useful.

Concepts, with their units: age (years), {concepts}.
"""


@dataclass(frozen=True, slots=True)
class ExamplePatient:
    """One serialised record and its outcome."""

    text: str
    label: int


def example_patients(cohort: LabelledCohort, count: int, budget: int) -> tuple[ExamplePatient, ...]:
    """Half with the outcome and half without, of the training split alone, each another person; drawn by a hash.

    Raises TrainingError where there are too few.
    """
    wanted: dict[tuple[str, str], int] = {}
    for label in (0, 1):
        rows = [row for row in cohort.split("train") if row.label == label]
        rows.sort(key=lambda row: share(f"rubric/{row.person}/{row.prediction_time.isoformat()}"))
        chosen = list({row.person: row for row in reversed(rows)}.values())[-(count // 2) :]
        if len(chosen) < count // 2:
            least = min(len({row.person for row in cohort.split("train") if row.label == one}) for one in (0, 1))
            raise TrainingError(
                f"only {len(chosen)} training patients {'with' if label else 'without'} the outcome, {count // 2} are "
                f"needed: ask for at most --examples {2 * least}"
            )
        wanted |= {(row.subject_id, row.prediction_time.isoformat()): row.label for row in chosen}
    found = [
        ExamplePatient(record.to_markdown(budget), row.label)
        for row, record in cohort.records("train")
        if (row.subject_id, row.prediction_time.isoformat()) in wanted
    ]
    return tuple(sorted(found, key=lambda item: share(item.text)))


def prompt_for_rubric(task: str, outcome: str, patients: Sequence[ExamplePatient]) -> str:
    """The whole prompt. It holds patient data: it goes to a model inside the hospital and nowhere else."""
    known = ", ".join(f"{name} ({concept.unit})" for name, concept in sorted(definitions().concepts.items()))
    head = _HEAD.format(
        outcome=outcome, count=len(patients), task=task, aggregates=", ".join(AGGREGATES), concepts=known,
        classes=", ".join([*StayClass, "any"]),
    )  # fmt: skip
    return "\n".join([head, *_shown(patients)])


def _shown(patients: Iterable[ExamplePatient]) -> Iterable[str]:
    for number, patient in enumerate(patients, 1):
        yield f'\n<patient number="{number}" outcome="{"yes" if patient.label else "no"}">\n{patient.text}\n</patient>'
