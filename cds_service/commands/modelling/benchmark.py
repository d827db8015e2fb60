"""`riskcards benchmark`: published benchmark protocols on local data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cds_service.commands.shared.model_sources import ENCODER_HELP, counting, report_line

if TYPE_CHECKING:
    from risk_model.research import ComparedEncoder, EncoderProtocol, Examples, FewShotResult, GivenVectors

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_PATH = click.Path(exists=True, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run published benchmarks on your own data; no data leave this machine.

    \b
    riskcards benchmark ehr-encoders --meds dataset/ --encoder minilm --out results/
    """


@command.command(name="ehr-encoders")
@click.option("--meds", required=True, type=_FOLDER, help="MEDS dataset folder (with data/ and metadata/).")
@click.option(
    "--tasks", default="ehrshot", show_default=True,
    help="Comma-separated task names, ours or EHRSHOT's; ehrshot stands for its 15.",
)  # fmt: skip
@click.option("--labels", type=_FOLDER, help="Folder of label files, instead of our label definitions.")
@click.option(
    "--shots", "shots_path", type=_PATH,
    help="Official draws: all_shots_data.json, or EHRSHOT's benchmark folder with one in each task's folder.",
)  # fmt: skip
@click.option("--instructions", "instructions_file", type=_FILE, help="YAML file: the instruction of each task.")
@click.option("--encoder", "encoders", multiple=True, default=("minilm",), metavar="NAME", help=ENCODER_HELP)
@click.option(
    "--serialiser", "serialisers", multiple=True, default=("codes",), show_default=True,
    metavar="NAME",
    help="How a record becomes text: codes, markdown, or markdown-without-PART; may be repeated.",
)  # fmt: skip
@click.option(
    "--vectors", "vector_files", multiple=True, metavar="NAME=FILE",
    help="Vectors made elsewhere, such as CLMBR's (.npz or .parquet); may be repeated.",
)  # fmt: skip
@click.option(
    "--ablate", "ablations", multiple=True, type=click.Choice(["serialisation", "instruction"]),
    help="Also leave out each part of the Markdown, or use a generic instruction and none; may be repeated.",
)  # fmt: skip
@click.option(
    "--against", default="counts + LightGBM", show_default=True, metavar="NAME",
    help="The representation that the others are compared with, paired by patient.",
)  # fmt: skip
@click.option(
    "--budget", default=8000, show_default=True, type=click.IntRange(64), help="Most tokens of a record's text."
)
@click.option(
    "--shares", default=(1 / 3, 1 / 3), nargs=2, type=click.FloatRange(0.01, 0.9), metavar="V T",
    help="Shares of validation and test if the dataset has no splits.  [default: a third each]",
)  # fmt: skip
@click.option(
    "--follow-up", default="patient", show_default=True, type=click.Choice(["data", "patient", "none"]),
    help="End of follow-up for our definitions; use `patient` if dates are shifted.",
)  # fmt: skip
@click.option("--draws", default=5, show_default=True, type=click.IntRange(1), help="Random draws for each k.")
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Results folder; run again to resume.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results.json.")
def ehr_encoders(out: Path, as_json: bool, **options: Any) -> None:
    """Compare record embeddings with LightGBM on code counts, from 1 example per class to all (EHRSHOT protocol).

    \b
    riskcards benchmark ehr-encoders --meds dataset/ --encoder minilm --encoder static --out results/
    riskcards benchmark ehr-encoders --meds ehrshot/ --labels benchmark/ --shots benchmark/ \\
        --encoder gte-qwen2:/models/gte-Qwen2-7B-instruct --vectors clmbr=clmbr.npz --out results/

    Records end at each prediction time and become text with the names in metadata/codes.parquet. OUT gets results.json
    and report.html. OUT/work holds records as text and vectors: patient data, so protect it and delete it when done. An
    interrupted run resumes; an encoder added later computes only its own part. See docs/ehrshot.md for EHRSHOT and
    MIMIC-IV.
    """
    from artifact_store import write_json
    from risk_model.research import protocol_report

    document = _study(_plan(_Asked(**options)), out / "work")
    write_json(out / "results.json", document)
    (out / "report.html").write_text(protocol_report(document), "utf-8")
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(document, out)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options of `ehr-encoders`, as given."""

    meds: Path
    tasks: str
    labels: Path | None
    shots_path: Path | None
    instructions_file: Path | None
    encoders: tuple[str, ...]
    serialisers: tuple[str, ...]
    vector_files: tuple[str, ...]
    ablations: tuple[str, ...]
    against: str
    budget: int
    shares: tuple[float, float]
    follow_up: str
    draws: int
    bootstraps: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is compared on which tasks and how, after every check that needs no encoder."""

    asked: _Asked
    tasks: Sequence[str]
    instructions: Mapping[str, str]
    compared: Sequence[ComparedEncoder]
    given: Sequence[GivenVectors]
    protocol: EncoderProtocol

    @property
    def serialisers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item.serialiser for item in self.compared))

    @property
    def preparation(self) -> dict[str, Any]:
        """The settings that decide which rows there are and what text they have."""
        asked = self.asked
        return {
            "tasks": self.tasks,
            "budget": asked.budget,
            "shares": asked.shares,
            "follow_up": asked.follow_up,
            "labels": str(asked.labels or ""),
        }

    def settings(self) -> dict[str, Any]:
        """Returns the settings for the results, without paths of this machine."""
        from risk_model.research import Instructions

        asked = self.asked
        return {
            **{name: value for name, value in self.preparation.items() if name != "labels"},
            **self.protocol.to_json(),
            "encoders": asked.encoders,
            "serialisers": asked.serialisers,
            "ablations": asked.ablations,
            "vectors": [item.name for item in self.given],
            "instructions": {task: Instructions("task", self.instructions).of(task) for task in self.tasks},
            "labelled_by": "label files" if asked.labels else "task definitions of riskcards",
            "drawn_by": "official files" if self.protocol.official else "riskcards",
        }


def _plan(asked: _Asked) -> _Plan:
    """Returns what is to be done. Whatever can be wrong with the options fails here, before hours of encoding."""
    from knowledge_index.encoders import check_encoder
    from risk_model.reports import require_matplotlib
    from risk_model.research import (
        SERIALISERS,
        EncoderProtocol,
        GivenVectors,
        compared_encoders,
        lightgbm_library,
        named_file,
        read_instructions,
        read_shots,
        shot_files,
        tasks_named,
    )

    if sum(asked.shares) >= 1:
        raise click.BadParameter("the shares of validation and test must leave something to train on")
    if unknown := next((name for name in asked.serialisers if name not in SERIALISERS), None):
        raise click.BadParameter(f"no serialiser {unknown!r}; there is {', '.join(SERIALISERS)}")
    require_matplotlib()
    lightgbm_library()
    for name in asked.encoders:
        check_encoder(name)
    tasks = tasks_named(asked.tasks, labels=asked.labels is not None)
    instructions = {} if asked.instructions_file is None else read_instructions(asked.instructions_file, tasks)
    compared = compared_encoders(asked.encoders, asked.serialisers, instructions, asked.ablations)
    given = [GivenVectors.open(*named_file(text)) for text in asked.vector_files]
    names = [*(item.name for item in compared), *(item.name for item in given), *_baselines()]
    if len(set(names)) < len(names):
        raise click.BadParameter(f"two representations have one name: {', '.join(names)}")
    if asked.against not in names:
        raise click.BadParameter(f"--against {asked.against!r} is none of: {', '.join(names)}")
    official = None if asked.shots_path is None else read_shots(shot_files(asked.shots_path))
    protocol = EncoderProtocol(draws=asked.draws, bootstraps=asked.bootstraps, official=official)
    return _Plan(asked, tasks, instructions, compared, given, protocol)


def _study(plan: _Plan, work: Path) -> dict[str, Any]:
    """Returns the results of a plan; `work` keeps texts and vectors for the next run."""
    from risk_model.research import by_task, results_document, usable_tasks

    asked, protocol = plan.asked, plan.protocol
    good, reasons = usable_tasks(by_task(_prepared(plan, work)))
    for task, why in reasons.items():
        report_line(f"{task}: left out, {why}")
    for task, examples in good.items():
        if protocol.draws_of(task, examples) is None and protocol.official is not None:
            report_line(f"{task}: no official draws in {asked.shots_path}; drawn anew")
    results = _results(good, plan, work / "vectors")
    if good and all(asked.against not in by_name for by_name in results.values()):
        report_line(f"{asked.against} was left out: nothing is compared; --against another representation")
    subjects = len({row.subject_id for examples in good.values() for row in examples.rows})
    data = {"name": _name(asked.meds), "subjects": subjects}
    return results_document(data, plan.settings(), good, reasons, results, asked.against)


def _baselines() -> list[str]:
    from risk_model.research import BASELINES

    return [item.name for item in BASELINES]


def _prepared(plan: _Plan, work: Path) -> dict[str, Examples]:
    """Returns the examples of every task, from an earlier run with the same settings if there is one."""
    from risk_model.cohorts import ByHash, MedsDataset
    from risk_model.labels import find_definition
    from risk_model.research import (
        OFFICIAL,
        Examples,
        examples_by_definition,
        examples_from_label_files,
        label_files,
        prepare_examples,
        read_vocabulary,
        settings_digest,
    )

    meds, labels, tasks, texts = plan.asked.meds, plan.asked.labels, plan.tasks, plan.serialisers
    with MedsDataset(meds, report_line) as source:
        read = [*source.files, *(path for task in tasks if labels for path in label_files(labels, task))]
        read += [path for path in (meds / "metadata" / "codes.parquet",) if path.exists()]
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in read]
        folder = work / settings_digest({**plan.preparation, "files": files})
        if all(Examples.is_whole(folder / task, texts) for task in tasks):
            report_line("records serialised by an earlier run")
            return {task: Examples.open(folder / task) for task in tasks}
        validation, test = plan.asked.shares
        if labels is not None:
            wanted = examples_from_label_files(labels, tasks, source.splits, validation, test)
        else:
            ehrshot = {item.task for item in OFFICIAL}
            chosen = [find_definition(task, "ehrshot" if task in ehrshot else None) for task in tasks]
            wanted = examples_by_definition(chosen, source, ByHash(validation, test), plan.asked.follow_up, report_line)
        folder.mkdir(parents=True, exist_ok=True)
        made = prepare_examples(wanted, source, read_vocabulary(meds), folder, texts, plan.asked.budget)
        for task, rows in wanted.items():
            if lost := len(rows) - len(made[task].rows):
                report_line(f"{task}: {lost} predictions of subjects that are not in the data are left out")
        return made


def _results(tasks: Mapping[str, Examples], plan: _Plan, kept: Path) -> dict[str, dict[str, FewShotResult]]:
    """task -> representation -> few-shot figures. One encoder is in memory at a time."""
    from knowledge_index.encoders import available_threads, encoder_named, takes_instruction
    from risk_model.research import BASELINES, Representation, code_counts, embed_all, evaluate_task

    # Given vectors first: whether every row has one is known before an encoder is opened.
    matrices = {
        item.name: {task: item.matrix(examples.rows, task) for task, examples in tasks.items()} for item in plan.given
    }
    found: dict[str, dict[str, FewShotResult]] = {task: {} for task in tasks}

    def evaluate(task: str, item: Representation, matrix: Any, made_by: str) -> None:
        report_line(f"{task}: evaluating {item.name}")
        found[task][item.name] = evaluate_task(task, tasks[task], matrix, item, made_by, plan.protocol)

    encoder, opened = None, ""
    for one in plan.compared:
        if encoder is None or opened != one.encoder:
            encoder, opened = encoder_named(one.encoder, available_threads()), one.encoder
        if one.instructions.mode != "task" and not takes_instruction(encoder):
            report_line(f"{one.name}: left out, {one.encoder} takes no instruction")
            continue
        item = Representation(one.name, "embedding", "logistic")
        with counting(f"records embedded by {item.name}") as progress:
            vectors = embed_all(encoder, tasks, one.serialiser, kept, progress, one.instructions)
        for task in tasks:
            evaluate(task, item, vectors[task], f"{encoder.fingerprint} {one.serialiser} {one.instructions.of(task)}")
    for each in plan.given:
        for task in tasks:
            evaluate(task, Representation(each.name, "given", "logistic"), matrices[each.name][task], each.digest)
    for task, examples in tasks.items():
        counts = code_counts(examples)
        for baseline in BASELINES:
            evaluate(task, baseline, counts, "counts")
    return found


def _name(meds: Path) -> str:
    """Returns the dataset's name in its metadata, else its folder name."""
    try:
        described = orjson.loads((meds / "metadata" / "dataset.json").read_bytes())
        return str(described.get("dataset_name") or meds.resolve().name)
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return meds.resolve().name


def _show(document: Mapping[str, Any], out: Path) -> None:
    if document["warning"]:
        click.secho(document["warning"], bold=True)
    for task, found in document["tasks"].items():
        test = found["rows"]["test"]
        click.echo(f"\n{task}: AUROC on {test['rows']} test rows, {test['outcomes']} with the outcome")
        names = list(found["representations"])
        for name in names:
            cells = {k: cell["auroc"]["value"] for k, cell in found["representations"][name].items() if "auroc" in cell}
            click.echo(f"  {name:<32}" + "  ".join(f"k={k} {value:.3f}" for k, value in cells.items()))
    for task, why in document["left_out"].items():
        click.echo(f"\n{task}: left out, {why}")
    compared = document["comparisons"]
    for name, item in compared["mean"].get("all", {}).items():
        click.echo(f"{name} against {compared['reference']}, all examples, mean over tasks: {_difference(item)}")
    click.echo(f"\nwritten to {out}: report.html and results.json")


def _difference(item: Mapping[str, Any]) -> str:
    low, high = item["interval"]
    return f"{item['value']:+.3f} ({low:+.3f} to {high:+.3f}), p = {item['p_holm']:.3f} after Holm"
