"""The 15 tasks of EHRSHOT by their official names, their groups, and what an encoder is asked about each.

Names, groups and the order of the chest X-ray findings are those of the benchmark's repository
(som-shahlab/ehrshot-benchmark). The instructions are worded here; `--instructions FILE` takes others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifact_store import DocumentError, read_document
from risk_model.core.errors import CohortError
from risk_model.features.record_encoding import QUESTION, instruction_for

CHEST_XRAY = "chexpert"
FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Lesion", "Lung Opacity", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
"""The findings of a chest X-ray, from the highest bit of a label's number to the lowest."""


@dataclass(frozen=True, slots=True)
class OfficialTask:
    """`official` is the name of the label folder, `task` the name of our own definition, `group` the paper's."""

    official: str
    task: str
    title: str
    group: str


OFFICIAL = tuple(
    OfficialTask(*row)
    for row in (
        ("guo_los", "long_stay", "Long length of stay", "operational outcomes"),
        ("guo_readmission", "readmission_30d", "30-day readmission", "operational outcomes"),
        ("guo_icu", "icu_transfer", "ICU transfer", "operational outcomes"),
        ("lab_thrombocytopenia", "thrombocytopenia", "Thrombocytopenia", "laboratory results"),
        ("lab_hyperkalemia", "hyperkalemia", "Hyperkalemia", "laboratory results"),
        ("lab_hypoglycemia", "hypoglycemia", "Hypoglycemia", "laboratory results"),
        ("lab_hyponatremia", "hyponatremia", "Hyponatremia", "laboratory results"),
        ("lab_anemia", "anemia", "Anemia", "laboratory results"),
        ("new_hypertension", "new_hypertension", "Hypertension", "new diagnoses"),
        ("new_hyperlipidemia", "new_hyperlipidemia", "Hyperlipidemia", "new diagnoses"),
        ("new_pancan", "new_pancreatic_cancer", "Pancreatic cancer", "new diagnoses"),
        ("new_celiac", "new_celiac", "Celiac disease", "new diagnoses"),
        ("new_lupus", "new_lupus", "Lupus", "new diagnoses"),
        ("new_acutemi", "new_acute_mi", "Acute myocardial infarction", "new diagnoses"),
        (CHEST_XRAY, "chest_xray", "Chest X-ray findings", "chest X-ray findings"),
    )
)
_BY_NAME = {name: item for item in OFFICIAL for name in (item.official, item.task)}


def tasks_named(names: str, *, labels: bool) -> tuple[str, ...]:
    """Returns the tasks of a comma-separated list, each once; `ehrshot` stands for the 15.

    Label files carry the official names, our definitions their own: either name is taken for both.

    >>> tasks_named("guo_los, my_task", labels=False), tasks_named("long_stay", labels=True)
    (('long_stay', 'my_task'), ('guo_los',))
    """
    asked = [part for name in names.split(",") if (part := name.strip())]
    listed = [item for name in asked for item in ([one.official for one in OFFICIAL] if name == "ehrshot" else [name])]

    def known(name: str) -> str:
        item = _BY_NAME.get(name)
        return name if item is None else item.official if labels else item.task

    return tuple(dict.fromkeys(map(known, listed)))


def label_names(task: str) -> tuple[str, ...]:
    """Returns the names that a task's label file may have: as asked, official, ours."""
    item = _BY_NAME.get(task)
    return (task,) if item is None else tuple(dict.fromkeys((task, item.official, item.task)))


def finding_task(task: str, finding: str) -> str:
    """Returns the name of one finding's task."""
    return f"{task}: {finding}"


def whole_task(task: str) -> str:
    """Returns the task that a finding belongs to, else the task itself.

    >>> whole_task("chexpert: Edema"), whole_task("new_lupus")
    ('chexpert', 'new_lupus')
    """
    return task.partition(": ")[0]


def group_of(task: str) -> str:
    """Returns the paper's group of tasks; `other` for a task that is not of EHRSHOT."""
    item = _BY_NAME.get(whole_task(task))
    return "other" if item is None else item.group


def finding_labels(number: int) -> tuple[int, ...]:
    """Returns 0 or 1 for each finding.

    >>> finding_labels(2**13)[0], finding_labels(1)[-1], sum(finding_labels(2**14 - 1))
    (1, 1, 14)
    """
    return tuple(number >> place & 1 for place in reversed(range(len(FINDINGS))))


def _none(_: str) -> None:
    return None


def _generic(_: str) -> str:
    return QUESTION


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions(...).of(task) is the instruction for an encoder, or None for none.

    `given` holds a user's own by task or official name; `mode` is one of `MODES`.
    """

    mode: str = "task"
    given: Mapping[str, str] = field(default_factory=dict)

    def of(self, task: str) -> str | None:
        if self.mode in _MODES:
            return _MODES[self.mode](task)
        whole = whole_task(task)
        own = next((self.given[name] for name in (task, *label_names(whole), "default") if name in self.given), None)
        item = _BY_NAME.get(whole)
        return own or instruction_for(whole if item is None else item.task)


_MODES: Mapping[str, Callable[[str], str | None]] = {"generic": _generic, "none": _none}
MODES = ("task", *_MODES)


def read_instructions(path: Path, tasks: Iterable[str]) -> dict[str, str]:
    """Returns the instructions of a YAML file by task name.

    The file maps a task (official or ours, or `default` for all others) to its whole instruction; with `prefix`, which
    is optional, to the part after it. Raises CohortError, naming the key, for what is none, and for a task that is
    left without.
    """
    try:
        raw: Any = read_document(path)
    except DocumentError as error:
        raise CohortError(f"{path}: {error}; expected lines such as 'guo_los: text'") from None
    if not isinstance(raw, dict) or not raw:
        raise CohortError(f"{path}: expected a mapping from a task such as guo_los to its instruction")
    for key, value in raw.items():
        if not isinstance(key, str) or not isinstance(value, str) or not value.strip():
            raise CohortError(f"{path}: the instruction of {key!r} is no text")
    prefix = raw.pop("prefix", "").strip()
    found = {key: f"{prefix}: {value.strip()}" if prefix else value.strip() for key, value in raw.items()}
    missing = [task for task in tasks if not any(name in found for name in (*label_names(task), "default"))]
    if missing:
        raise CohortError(f"{path}: no instruction for {', '.join(missing)}; give one, or 'default' for all others")
    return found
