"""`riskcards few-shot`: compares record embeddings with code counts for few training examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from cds_service.commands.shared.model_sources import (
    ENCODER_HELP,
    READER_HELP,
    counting,
    keeping,
    open_sources,
    report_line,
)
from knowledge_index.encoders import DEFAULT


@click.command(name="few-shot")
@click.option(
    "--cohort",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of `riskcards cohort build`, with all three splits.",
)
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the results.")
@click.option("--encoder", default=DEFAULT, show_default=True, metavar="NAME", help=ENCODER_HELP)
@click.option("--serialiser", type=click.Choice(["codes", "markdown"]), default="codes", show_default=True)
@click.option("--budget", default=8000, show_default=True, type=click.IntRange(64), help="Tokens of the record's text.")
@click.option(
    "--rubric", "rubric_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also evaluate the answers to a rubric; see `riskcards rubric`.",
)  # fmt: skip
@click.option("--note-reader", help=f"With --rubric: the note reader for its items about notes: {READER_HELP}")
@click.option("--draws", default=5, show_default=True, type=click.IntRange(1), help="Random draws for each k.")
@click.option("--bootstraps", default=1000, show_default=True, type=click.IntRange(20), help="Resamples of patients.")
@click.option("--json", "as_json", is_flag=True, help="Print few_shot.json.")
def command(
    cohort: Path,
    out: Path,
    encoder: str,
    serialiser: str,
    budget: int,
    rubric_file: Path | None,
    note_reader: str | None,
    draws: int,
    bootstraps: int,
    as_json: bool,
) -> None:
    """Compare record embeddings with code counts, from 1 training example per class to all.

    \b
    riskcards cohort build --task readmission_30d --label ehrshot --fhir export/ --out cohort/
    riskcards few-shot --cohort cohort/ --out few-shot/

    k = 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 128 and all; as many again for validation; evaluated on the test
    split with patient-level bootstraps, for any cohort task. OUT gets few_shot.json.
    """
    from artifact_store import write_json
    from knowledge_index.encoders import available_threads, encoder_named
    from risk_model import LabelledCohort
    from risk_model.features import Rubric
    from risk_model.research import EMBEDDING_AND_COUNTS, RUBRIC, read_parts, run_few_shot

    if note_reader and rubric_file is None:
        raise click.UsageError("--note-reader needs --rubric")
    labelled = LabelledCohort.open(cohort)
    opened = keeping(encoder_named(encoder, available_threads()), encoder, out)
    with counting("records embedded") as progress:
        rubric = None if rubric_file is None else Rubric.open(rubric_file)
        reader = open_sources(None, note_reader, beside=out).reader
        parts = read_parts(labelled, opened, serialiser, budget, progress, rubric, reader)
    compared = EMBEDDING_AND_COUNTS if rubric is None else (*EMBEDDING_AND_COUNTS, RUBRIC)
    result = run_few_shot(parts, representations=compared, draws=draws, bootstraps=bootstraps, say=report_line)
    document: dict[str, Any] = {
        "task": labelled.task,
        "label": labelled.definition,
        "encoder": opened.name,
        "serialiser": serialiser,
        "budget": budget,
        "draws": draws,
        "rows": {name: len(part.y) for name, part in parts.items()},
        "shots": result.table,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "few_shot.json", document)
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"{labelled.task} ({labelled.definition}), AUROC on the test split")
    click.echo(f"{'k':>5}" + "".join(f"{item.name:>26}" for item in compared))
    for k, kinds in document["shots"].items():
        click.echo(f"{k:>5}" + _cells(kinds))


def _cells(kinds: dict[str, Any]) -> str:
    if "reason" in kinds:
        return f"   {kinds['reason']}"
    shown = (kind["auroc"] for kind in kinds.values())
    return "".join(f"{m['value']:>9.3f} ({m['interval'][0]:.3f} to {m['interval'][1]:.3f})" for m in shown)
