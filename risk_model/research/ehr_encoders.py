"""The EHRSHOT protocol on any MEDS dataset: record embeddings against counts of codes, task by task, few shots to all.

After Wornow et al., "EHRSHOT" (NeurIPS 2023) and Hegselmann et al., "LLMs are powerful EHR encoders" (arXiv
2502.17403): serialise, embed with a frozen encoder, scale to a largest value of one, L2 logistic regression with C from
1e-6 to 1e6 chosen on validation; beside it counts of codes through LightGBM and through the same regression. AUROC and
AUPRC on the test split with patient-level bootstraps.

What a run made stays in its folder (`meds_examples`, vectors, results), each under a name that says what it depends
on, so that a run that was stopped goes on and a further encoder costs only itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from artifact_store import write_json
from knowledge_index import Encoder
from knowledge_index.encoders import CachedEncoder, encode_long
from risk_model.core.errors import TrainingError
from risk_model.research.ehrshot_shots import Draw, OfficialShots, places_of
from risk_model.research.ehrshot_tasks import Instructions, group_of, label_names, whole_task
from risk_model.research.few_shot import (
    DRAWS,
    MOST_CODES,
    SHOTS,
    FewShotResult,
    FewShotSplit,
    Representation,
    check,
    run_few_shot,
)
from risk_model.research.meds_examples import Examples, summary
from risk_model.research.paired_tests import comparisons

BASELINES = (
    Representation("counts + LightGBM", "counts", "lightgbm"),
    Representation("counts + logistic", "counts", "logistic"),
)
FEWEST = 100
"""Test rows with, and without, an outcome below which an AUROC says nothing: Collins et al., Stat Med 2016."""
_BLOCK = 128
_SPLITS = ("train", "validation", "test")
_VECTORS_BYTES = 2**36


@dataclass(frozen=True, slots=True)
class EncoderProtocol:
    """How much is drawn and resampled."""

    shots: tuple[int, ...] = SHOTS
    draws: int = DRAWS
    bootstraps: int = 1000
    official: OfficialShots | None = None
    """Official draws by task or finding; a task without any is drawn anew."""

    def draws_of(self, task: str, examples: Examples) -> dict[int, list[Draw]] | None:
        """Returns the official draws of a task, None if there are none."""
        shots = (
            next((self.official[n] for n in (examples.finding, *label_names(task)) if n in self.official), None)
            if self.official
            else None
        )
        return None if shots is None else places_of(shots, examples.rows, task)

    def to_json(self) -> dict[str, Any]:
        return {"shots": list(self.shots), "draws": self.draws, "bootstraps": self.bootstraps}


def usable_tasks(examples: Mapping[str, Examples]) -> tuple[dict[str, Examples], dict[str, str]]:
    """Returns the tasks with enough examples, and the reason for each that is left out."""
    good, reasons = {}, {}
    for task, found in examples.items():
        if not found.rows:
            reasons[task] = "no row of this data is one of the task's predictions"
            continue
        try:
            for split in _SPLITS:
                check(split, [row.label for row in found.rows if row.split == split])
        except TrainingError as error:
            reasons[task] = str(error)
        else:
            good[task] = found
    return good, reasons


def embed_all(
    encoder: Encoder,
    tasks: Mapping[str, Examples],
    serialiser: str,
    kept: Path,
    progress: Callable[[int, int], None],
    instructions: Instructions,
) -> dict[str, NDArray[np.float32]]:
    """Vectors of every task's rows, shape (rows, dimensions). A text that two tasks share is encoded once for both,
    unless the encoder takes each task's own instruction; the findings of a task share its vectors."""
    remembering = CachedEncoder(encoder, kept, _VECTORS_BYTES)
    total, done = sum(len(examples.rows) for examples in tasks.values()), 0
    found = {}
    for task, examples in tasks.items():
        asked = instructions.of(task)
        path = examples.folder / f"vectors-{_digest(encoder.fingerprint, serialiser, repr(asked))}.npy"
        if not path.exists():
            made = _embed(remembering, examples.texts(serialiser), asked, partial(_report, progress, done, total))
            _save(path, made)
        found[task] = np.load(path, allow_pickle=False)
        done += len(examples.rows)
        progress(done, total)
    return found


def _report(progress: Callable[[int, int], None], before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _embed(
    encoder: Encoder, texts: Iterable[str], instruction: str | None, progress: Callable[[int], None]
) -> NDArray[np.float32]:
    made: list[NDArray[np.float32]] = []
    waiting = iter(texts)
    while block := list(islice(waiting, _BLOCK)):
        made.append(encode_long(encoder, block, instruction))
        progress(sum(map(len, made)))
    return np.concatenate(made)


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    unfinished.rename(path)


def evaluate_task(
    task: str, examples: Examples, matrix: Any, item: Representation, made_by: str, protocol: EncoderProtocol
) -> FewShotResult:
    """The few-shot figures of one representation of one task, kept beside its examples. `made_by` says what the matrix
    depends on."""
    chosen = protocol.draws_of(task, examples)
    drawn = (
        ""
        if chosen is None
        else repr([(k, [tuple(map(np.ndarray.tolist, d)) for d in ds]) for k, ds in chosen.items()])
    )
    settings = orjson.dumps(protocol.to_json()).decode()
    name = _digest("2", made_by, item.learner, settings, examples.finding, drawn)
    path = examples.folder / f"result-{name}.json"
    if path.exists():
        kept = orjson.loads(path.read_bytes())
        read = {k: {item.name: np.array(values, dtype=np.float64)} for k, values in kept["samples"].items()}
        return FewShotResult(kept["table"], read)
    found = run_few_shot(
        _parts(examples, matrix, item.matrix), representations=(item,), shots=protocol.shots, draws=protocol.draws,
        bootstraps=protocol.bootstraps, chosen=chosen,
    )  # fmt: skip
    table = {k: cell.get(item.name, cell) for k, cell in found.table.items()}
    samples = {k: [None if np.isnan(v) else v for v in by[item.name].tolist()] for k, by in found.samples.items()}
    unfinished = path.with_suffix(".part")
    write_json(unfinished, {"table": table, "samples": samples})
    unfinished.rename(path)
    return FewShotResult(table, found.samples)


def code_counts(examples: Examples) -> Any:
    """Counts, shape (rows, codes): the codes that most training rows have, chosen without looking at outcomes."""
    counts = examples.counts()
    train = np.flatnonzero([row.split == "train" for row in examples.rows])
    rows_with = np.asarray((counts[train] > 0).sum(axis=0)).ravel()
    often = np.argsort(-rows_with, kind="stable")[:MOST_CODES]
    return counts[:, np.sort(often[rows_with[often] > 0])]


def _parts(examples: Examples, matrix: Any, name: str) -> dict[str, FewShotSplit]:
    found = {}
    for split in _SPLITS:
        at = np.flatnonzero([row.split == split for row in examples.rows])
        rows = [examples.rows[place] for place in at]
        outcomes = np.array([float(row.label) for row in rows])
        found[split] = FewShotSplit(outcomes, np.array([row.subject_id for row in rows]), {name: matrix[at]})
    return found


def results_document(
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    tasks: Mapping[str, Examples],
    reasons: Mapping[str, str],
    results: Mapping[str, Mapping[str, FewShotResult]],
    reference: str = BASELINES[0].name,
) -> dict[str, Any]:
    """The whole result: `results` is task -> representation; each is compared with `reference`, paired by patient."""
    tables = {task: {name: result.table for name, result in by_name.items()} for task, by_name in results.items()}
    by_task = {
        task: {"rows": summary(examples.rows), "representations": dict(tables[task])}
        for task, examples in tasks.items()
    }
    return {
        "warning": warning(tasks),
        "data": dict(data),
        "settings": dict(settings),
        "tasks": by_task,
        "left_out": dict(reasons),
        "mean": mean_over_tasks(tables),
        "groups": mean_by_group(tables),
        "comparisons": comparisons({task: _samples(by_name) for task, by_name in results.items()}, reference),
    }


def _samples(by_name: Mapping[str, FewShotResult]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """k -> representation -> resamples."""
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, result in by_name.items():
        for k, samples in result.samples.items():
            found.setdefault(k, {})[name] = samples[name]
    return found


def warning(tasks: Mapping[str, Examples]) -> str | None:
    """Returns the warning above figures from too few patients; None if there are enough."""
    fewest = {task: _rarer_in_test(examples) for task, examples in tasks.items()}
    few = {task: number for task, number in fewest.items() if number < FEWEST}
    if not few:
        return None
    which = "These numbers" if len(few) == len(tasks) else f"The numbers of {', '.join(few)}"
    return (
        f"{which} mean nothing clinically: they show that the machinery runs. The test split has as few as "
        f"{min(few.values())} rows of the rarer outcome; at least {FEWEST} are needed to evaluate a model."
    )


def _rarer_in_test(examples: Examples) -> int:
    labels = [row.label for row in examples.rows if row.split == "test"]
    return min(sum(labels), len(labels) - sum(labels))


def mean_over_tasks(
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """k -> representation -> mean AUROC and AUPRC, over the tasks that every representation has figures for at that k.

    The findings of one task are averaged first: together they count as one task, as in the paper.

    >>> cell = {"auroc": {"value": 0.7}, "auprc": {"value": 0.3}}
    >>> mean_over_tasks({"a": {"counts": {"1": cell}}, "b": {"counts": {"1": {"reason": "too few"}}}})
    {'1': {'counts': {'auroc': 0.7, 'auprc': 0.3, 'tasks': 1}}}
    """
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    shots = list(dict.fromkeys(k for table in tables.values() for row in table.values() for k in row))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for k in shots:
        whole: dict[str, list[Mapping[str, Mapping[str, Any]]]] = {}
        for task, table in tables.items():
            if all("auroc" in table.get(name, {}).get(k, {}) for name in names):
                whole.setdefault(whole_task(task), []).append(table)
        if whole:
            found[k] = {
                name: {
                    m: float(np.mean([np.mean([t[name][k][m]["value"] for t in each]) for each in whole.values()]))
                    for m in ("auroc", "auprc")
                }
                | {"tasks": len(whole)}
                for name in names
            }
    return found


def mean_by_group(tables: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Group of tasks, in the paper's order -> what `mean_over_tasks` says of the group."""
    groups = dict.fromkeys(group_of(task) for task in tables)
    return {
        group: mean_over_tasks({task: table for task, table in tables.items() if group_of(task) == group})
        for group in groups
    }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def settings_digest(settings: Mapping[str, Any]) -> str:
    """A name for what the examples of a run depend on."""
    return _digest(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS).decode())
