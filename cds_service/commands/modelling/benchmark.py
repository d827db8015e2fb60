"""`riskcards benchmark`: published benchmark protocols on local data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cds_service.commands.shared.model_sources import ENCODER_HELP, counting, report_line

if TYPE_CHECKING:
    from risk_model.research import EncoderProtocol, Examples

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EHRSHOT = (
    "long_stay", "readmission_30d", "icu_transfer", "thrombocytopenia", "hyperkalemia", "hypoglycemia", "hyponatremia",
    "anemia", "new_hypertension", "new_hyperlipidemia", "new_pancreatic_cancer", "new_celiac", "new_lupus",
    "new_acute_mi", "chest_xray",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Run published benchmarks on your own data; no data leave this machine.

    \b
    riskcards benchmark ehr-encoders --meds dataset/ --encoder minilm --out results/
    """


@command.command(name="ehr-encoders")
@click.option("--meds", required=True, type=_FOLDER, help="MEDS dataset folder (data/*.parquet, metadata/).")
@click.option("--tasks", default="ehrshot", show_default=True, help="Comma-separated task names, or ehrshot for all.")
@click.option("--labels", type=_FOLDER, help="Folder of label files, instead of our label definitions.")
@click.option("--encoder", "encoders", multiple=True, default=("minilm",), metavar="NAME", help=ENCODER_HELP)
@click.option(
    "--serialiser", "serialisers", multiple=True, default=("codes",), show_default=True,
    type=click.Choice(["codes", "markdown"]), help="How a record becomes text; may be repeated.",
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
def ehr_encoders(
    meds: Path,
    tasks: str,
    labels: Path | None,
    encoders: tuple[str, ...],
    serialisers: tuple[str, ...],
    budget: int,
    shares: tuple[float, float],
    follow_up: str,
    draws: int,
    bootstraps: int,
    out: Path,
    as_json: bool,
) -> None:
    """Compare record embeddings with LightGBM on code counts, from 1 example per class to all (EHRSHOT protocol).

    \b
    riskcards benchmark ehr-encoders --meds dataset/ --encoder minilm --encoder static --out results/
    riskcards benchmark ehr-encoders --meds ehrshot/ --labels benchmark/ --tasks guo_readmission,new_lupus \\
        --encoder qwen3-embedding:/models/Qwen3-Embedding-0.6B --out results/

    Records end at each prediction time and become text with the names in metadata/codes.parquet. OUT gets results.json
    and report.html. OUT/work holds records as text and vectors: patient data, so protect it and delete it when done. An
    interrupted run resumes; an encoder added later computes only its own part. See docs/ehrshot.md for EHRSHOT and
    MIMIC-IV.
    """
    from artifact_store import write_json
    from knowledge_index.encoders import check_encoder
    from risk_model.reports import require_matplotlib
    from risk_model.research import EncoderProtocol, lightgbm_library, protocol_report, results_document, usable_tasks

    if sum(shares) >= 1:
        raise click.BadParameter("the shares of validation and test must leave something to train on")
    require_matplotlib()
    lightgbm_library()  # fail before hours of encoding
    for name in encoders:
        check_encoder(name)
    wanted = list(dict.fromkeys(EHRSHOT if tasks == "ehrshot" else [name.strip() for name in tasks.split(",") if name]))
    options = {"tasks": wanted, "budget": budget, "shares": shares, "follow_up": follow_up, "labels": str(labels or "")}
    prepared = _prepared(meds, labels, wanted, options, out / "work")
    good, reasons = usable_tasks(prepared)
    for task, why in reasons.items():
        report_line(f"{task}: left out, {why}")
    protocol = EncoderProtocol(draws=draws, bootstraps=bootstraps)
    tables = _tables(good, encoders, serialisers, protocol, out / "work" / "vectors")
    subjects = len({row.subject_id for examples in good.values() for row in examples.rows})
    settings = {**options, **protocol.to_json(), "encoders": encoders, "serialisers": serialisers}
    settings.pop("labels")
    settings["labelled_by"] = "label files" if labels else "task definitions of riskcards"
    document = results_document({"name": _name(meds), "subjects": subjects}, settings, good, reasons, tables)
    write_json(out / "results.json", document)
    (out / "report.html").write_text(protocol_report(document), "utf-8")
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    _show(document, out)


def _prepared(
    meds: Path, labels: Path | None, tasks: Sequence[str], options: Mapping[str, Any], work: Path
) -> dict[str, Examples]:
    """Returns the examples of every task, from an earlier run with the same settings if there is one."""
    from risk_model.cohorts import ByHash, MedsDataset
    from risk_model.labels import find_definition
    from risk_model.research import (
        SERIALISERS,
        Examples,
        examples_by_definition,
        examples_from_label_files,
        label_files,
        prepare_examples,
        read_vocabulary,
        settings_digest,
    )

    with MedsDataset(meds, report_line) as source:
        read = [*source.files, *(path for task in tasks if labels for path in label_files(labels, task))]
        read += [path for path in (meds / "metadata" / "codes.parquet",) if path.exists()]
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in read]
        folder = work / settings_digest({**options, "files": files})
        if all((folder / task / "rows.jsonl").exists() for task in tasks):
            report_line("records serialised by an earlier run")
            return {task: Examples.open(folder / task) for task in tasks}
        validation, test = options["shares"]
        if labels is not None:
            wanted = examples_from_label_files(labels, tasks, source.splits, validation, test)
        else:
            chosen = [find_definition(task, "ehrshot" if task in EHRSHOT else None) for task in tasks]
            wanted = examples_by_definition(
                chosen, source, ByHash(validation, test), str(options["follow_up"]), report_line
            )
        folder.mkdir(parents=True, exist_ok=True)
        made = prepare_examples(
            wanted, source, read_vocabulary(meds), folder, list(SERIALISERS), int(options["budget"])
        )
        for task, rows in wanted.items():
            if lost := len(rows) - len(made[task].rows):
                report_line(f"{task}: {lost} predictions of subjects that are not in the data are left out")
        return made


def _tables(
    tasks: Mapping[str, Examples],
    encoders: Sequence[str],
    serialisers: Sequence[str],
    protocol: EncoderProtocol,
    kept: Path,
) -> dict[str, dict[str, dict[str, Any]]]:
    """task -> representation -> few-shot table. One encoder is in memory at a time."""
    from knowledge_index.encoders import available_threads, encoder_named
    from risk_model.research import BASELINES, Representation, code_counts, embed_all, evaluate_task

    found: dict[str, dict[str, dict[str, Any]]] = {task: {} for task in tasks}
    for name in encoders:
        encoder = encoder_named(name, available_threads())
        for serialiser in serialisers:
            item = Representation(f"{name}, {serialiser}", "embedding", "logistic")
            with counting(f"records embedded by {item.name}") as progress:
                vectors = embed_all(encoder, tasks, serialiser, kept, progress)
            for task, examples in tasks.items():
                report_line(f"{task}: evaluating {item.name}")
                made_by = f"{encoder.fingerprint} {serialiser}"
                found[task][item.name] = evaluate_task(examples, vectors[task], item, made_by, protocol)
    for task, examples in tasks.items():
        counts = code_counts(examples)
        for item in BASELINES:
            report_line(f"{task}: evaluating {item.name}")
            found[task][item.name] = evaluate_task(examples, counts, item, "counts", protocol)
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
    click.echo(f"\nwritten to {out}: report.html and results.json")
