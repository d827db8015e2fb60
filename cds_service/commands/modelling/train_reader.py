"""`riskcards train-reader`: tunes a LoRA adapter of a local language model that reads notes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cds_service.commands.shared.model_sources import counting, report_line

if TYPE_CHECKING:
    from fhir_mapping import PatientRecord
    from knowledge_index import KnowledgeIndex
    from risk_model.llm_tuning import TuningSettings, TuningSplit, WindowExamples

GENERATED = "generated"


@click.command(name="train-reader")
@click.option(
    "--model", default="smollm2", show_default=True, help="smollm2, a folder with safetensors, or a .gguf file."
)
@click.option(
    "--notes",
    multiple=True,
    default=(GENERATED,),
    show_default=True,
    help="Source of examples: `generated`, or a folder of FHIR with notes; may be repeated.",
)
@click.option(
    "--cohort", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Tune it on outcomes instead: a folder of `riskcards cohort build` with notes.",
)  # fmt: skip
@click.option("--task", help="With --cohort: the task it was built for.")
@click.option(
    "--share", default=0.5, show_default=True, type=click.FloatRange(0, 1, min_open=True),
    help="With --cohort: the share of patients to use, by hash; the others are left to train a model with it.",
)  # fmt: skip
@click.option(
    "--evidence/--no-evidence", default=True, show_default=True,
    help="With --cohort: show it the patient's problems and literature about them, as `train --stage1` does.",
)  # fmt: skip
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="The adapter's folder.")
@click.option("--resume", is_flag=True, help="Resume interrupted training, with the same options.")
@click.option(
    "--examples", default=600, show_default=True, type=click.IntRange(8),
    help="Number of generated examples, or of windows of a cohort's notes.",
)  # fmt: skip
@click.option(
    "--each", default=20, show_default=True, type=click.IntRange(1), help="Windows generated from each FHIR record."
)
@click.option("--epochs", default=2, show_default=True, type=click.IntRange(1))
@click.option("--max-steps", type=click.IntRange(1), help="Most batches, regardless of --epochs.")
@click.option("--batch", default=8, show_default=True, type=click.IntRange(1), help="Examples per step.")
@click.option(
    "--rank",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Rank of the LoRA matrices; alpha is twice the rank.",
)
@click.option("--targets", default="all-linear", show_default=True, help="Comma-separated layer names.")
@click.option("--learning-rate", default=1e-3, show_default=True, type=click.FloatRange(0, min_open=True))
@click.option(
    "--validate-every", default=25, show_default=True, type=click.IntRange(1), help="Steps between validations."
)
@click.option(
    "--patience",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Validations without improvement before stopping.",
)
@click.option(
    "--max-tokens", default=1024, show_default=True, type=click.IntRange(16), help="Longer examples are left out."
)
@click.option(
    "--answers", default="json", show_default=True, type=click.Choice(["json", "compact"]),
    help="Answer format; compact lines are shorter and easier for a small model.",
)  # fmt: skip
@click.option("--precision", default="auto", show_default=True, help="auto, float32, bfloat16 or 8bit.")
@click.option(
    "--identified", is_flag=True,
    help="Tune on notes as they are.  [default: names, places, dates and numbers are removed first]",
)  # fmt: skip
@click.option("--seed", default=7, show_default=True, type=int)
@click.option("--json", "as_json", is_flag=True, help="Print the adapter's manifest.")
def command(**chosen: Any) -> None:
    """Fine-tune a local language model to read notes, as a LoRA adapter; the model itself is unchanged.

    \b
    riskcards train-reader --out reader/                                  SmolLM2-135M on generated notes
    riskcards train-reader --notes export/ --notes generated --out reader/
    riskcards train-reader --model /models/Qwen3-8B --precision bfloat16 --notes export/ --out reader/
    riskcards train-reader --task in_hospital_mortality --cohort cohort/ --out opinion/
    riskcards train-reader --out reader/ --resume                         after an interruption

    Labels come from the structured record: conditions and measurements become sentences in many styles, with negations,
    relatives, abbreviations and unrelated numbers; of a FHIR folder's own notes, passages are used on which the record
    and the rule reader agree. Styles and patients for validation are excluded from training. Training stops when the
    validation loss no longer improves; the best adapter is kept.

    With --cohort the model learns to give a risk level and a reason, for a first stage. The label is the outcome of
    rows in the training and validation splits, balanced; the log-odds are corrected for it. The reason is the sentence
    with the largest weight in a regression fitted on other patients. The manifest has hashes of the patients of
    --share: `riskcards train --stage1` excludes them, as the adapter has seen their outcomes.

    OUT gets the adapter as safetensors and manifest.json with settings, losses and the sha256 of the base model, the
    examples and each file, verified on every load. An interrupted run resumes with --resume and ends with the same
    weights. Notes of patients are de-identified first, by the key OUT.key (docs/deidentification.md); with --identified
    they are not. The files contain no note text, but weights tuned on real notes can reproduce it: protect such an
    adapter as patient data.

    Needs pip install "riskcards[llm]". Two CPU cores process 100 to 200 tokens a second with SmolLM2; use a GPU for
    models with billions of weights. Exit codes: 0 done, 2 usage error, 3 unusable model, folder or state.
    """
    from knowledge_index import KnowledgeIndex
    from risk_model.llm import check_installed, find_weights
    from risk_model.llm_tuning import STYLES

    if (chosen["cohort"] is None) != (chosen["task"] is None):
        raise click.UsageError("--task and --cohort need each other")
    check_installed("peft")
    find_weights(chosen["model"])  # before hours of work: whether there is such a model
    chosen["out"].mkdir(parents=True, exist_ok=True)
    examples = _lessons(chosen, KnowledgeIndex.open_starter())
    split = examples.split
    others = "in other styles" if split.sources == STYLES else "of other patients"
    report_line(f"{len(split.train)} training examples, {len(split.validation)} validation examples {others}")
    manifest = _tuned(chosen, examples)
    if chosen["as_json"]:
        click.echo(orjson.dumps(manifest, option=orjson.OPT_INDENT_2).decode())
        return
    first, lowest = manifest["metrics"]["validation"][0]["loss"], manifest["metrics"]["lowest"]
    click.echo(
        f"validation loss on {split.sources}: {first:.3f} before, {lowest:.3f} after\nwritten to {chosen['out']}"
    )


def _tuned(chosen: Mapping[str, Any], examples: WindowExamples) -> Mapping[str, Any]:
    """Returns the manifest of the adapter after its training."""
    from risk_model.llm import LocalLanguageModel, base_fingerprint, find_weights
    from risk_model.llm_tuning import tune

    model = LocalLanguageModel(chosen["model"], precision=chosen["precision"])
    base = {
        "name": Path(chosen["model"]).name,
        "fingerprint": base_fingerprint(*find_weights(chosen["model"])),
        "precision": chosen["precision"],
    }
    with counting("steps") as moved:

        def progress(step: int, steps: int, words: str) -> None:
            moved(step, steps)
            if words.startswith("validation"):
                report_line(f"step {step}: {words}")

        return tune(
            model, examples.split, chosen["out"], _settings(chosen), base=base, resume=chosen["resume"],
            outcome_tuning=examples.outcome_tuning, progress=progress,
        )  # fmt: skip


def _settings(chosen: Mapping[str, Any]) -> TuningSettings:
    from risk_model.llm_tuning import TuningSettings

    names = (
        "rank", "learning_rate", "batch", "epochs", "max_steps", "validate_every", "patience", "max_tokens", "seed",
        "answers",
    )  # fmt: skip
    targets = tuple(name.strip() for name in chosen["targets"].split(",") if name.strip())
    return TuningSettings(alpha=2 * chosen["rank"], targets=targets, **{name: chosen[name] for name in names})


def _lessons(chosen: Mapping[str, Any], index: KnowledgeIndex) -> WindowExamples:
    """Returns the training examples: notes, or outcomes of a cohort. Raises TrainingError for another task's cohort."""
    from risk_model import LabelledCohort, RuleNoteReader, TrainingError
    from risk_model.evaluation import TRAINING
    from risk_model.llm_tuning import WindowExamples, labelled_notes, place_of, select_windows

    if chosen["cohort"] is None:
        return WindowExamples(
            _split(chosen["notes"], chosen["examples"], chosen["each"], chosen["seed"], index, _deidentifying(chosen))
        )
    by = _deidentifying(chosen)
    labelled, task = LabelledCohort.open(chosen["cohort"]), chosen["task"]
    if labelled.task != task:
        raise TrainingError(f"the cohort was built for the task {labelled.task}, not {task}")
    rules = RuleNoteReader(index, embed=False)
    shown = labelled.asked.question if chosen["evidence"] else None
    rows = (
        labelled_notes((row.person, row.subject_id), by(record).notes(), row.label, rules, shown)
        for split in TRAINING
        for row, record in labelled.records(split)
        if place_of(row.person, "taught") < chosen["share"]
    )
    with counting("rows converted") as moved:
        return select_windows(
            rows, labelled.asked.question, count=chosen["examples"], seed=chosen["seed"],
            progress=lambda n: moved(n, len(labelled.rows)),
        )  # fmt: skip


def _deidentifying(chosen: Mapping[str, Any]) -> Callable[[PatientRecord], PatientRecord]:
    """Returns what is done with each record: it is de-identified, unless --identified."""
    if chosen["identified"]:
        return lambda record: record
    from risk_model.deidentification import Deidentifier

    # Kept beside the adapter, for a resumed run has to see the same text.
    out = chosen["out"].resolve()
    key = out.with_name(f"{out.name}.key")
    if not key.exists():
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32))
    return Deidentifier(key.read_bytes()).record


def _split(
    notes: Sequence[str],
    examples: int,
    each: int,
    seed: int,
    index: KnowledgeIndex,
    by: Callable[[PatientRecord], PatientRecord],
) -> TuningSplit:
    from risk_model.llm_tuning import TuningSplit, deduplicated, examples_from_notes, generated_examples

    train, validation = [], generated_examples(index, "validation", max(4, examples // 16), seed)
    for source in dict.fromkeys(notes):
        if source == GENERATED:
            train += generated_examples(index, "train", examples, seed)
            continue
        if not Path(source).is_dir():
            raise click.UsageError(f"--notes {source}: expected `generated` or a folder of FHIR files")
        with counting("records converted") as moved:
            found = examples_from_notes(
                map(by, _records(Path(source))), index, each=each, seed=seed, progress=lambda n: moved(n, n)
            )
        train += found["train"]
        validation += found["validation"]
    return TuningSplit(deduplicated(train, validation), deduplicated(validation))


def _records(folder: Path) -> Iterator[PatientRecord]:
    from fhir_mapping import PatientRecord
    from risk_model.cohorts import FhirFolder

    with FhirFolder(folder, report_line) as opened:
        for patient in opened.patients():
            yield PatientRecord.from_resources(patient.resources, patient.subject_id)
