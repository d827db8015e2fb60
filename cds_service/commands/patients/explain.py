"""`riskcards explain`: what the card and the app say of an estimate, as JSON."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from artifact_store import PerProcess
from cds_service.commands.shared.exit_codes import ABSTAINED, BAD_INPUT
from cds_service.commands.shared.files import SiteMapType, TimeType, load_record
from cds_service.commands.shared.parallel import Parallel, parallel_options

if TYPE_CHECKING:
    from cds_service.commands.patients.explain_folder import ExplanationLines
    from fhir_mapping import PatientRecord, SiteMap
    from risk_model import Pipeline


@click.command(name="explain")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--task", help="readmission_30d or in_hospital_mortality.  [default: readmission_30d, or that of --model]"
)
@click.option(
    "--as-of", type=TimeType(), help="Use only data known at this time; a date means its end.  [default: all data]"
)
@click.option("--patient", help="The patient id, where FILES hold several patients.")
@click.option("--encounter", help="The encounter id of the stay.  [default: the stay at that time]")
@click.option("--site-map", type=SiteMapType(), help="YAML file that translates a site's own codes.")
@click.option(
    "--model", type=click.Path(file_okay=False, path_type=Path), help="A model folder.  [default: the shipped model]"
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.  [default: stdout]")
@parallel_options()
@click.option("--json", "_json", is_flag=True, hidden=True, help="The output is always JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    task: str | None,
    as_of: datetime | None,
    patient: str | None,
    encounter: str | None,
    site_map: SiteMap | None,
    model: Path | None,
    out: Path | None,
    parallel: Parallel,
    _json: bool,
) -> None:
    """Explain the estimate of one patient, or of every patient in a folder, as JSON.

    \b
    riskcards explain patient.json --task in_hospital_mortality --as-of 2024-02-11T03:00:00Z
    riskcards explain export/ --task readmission_30d --out explained.ndjson --workers 8

    One patient gives one object: estimate, drivers, scores, literature. A folder (Bulk Data NDJSON or Bundles) gives
    one line a patient; an unreadable patient gives a line with its "error", and exit code 3. An interrupted run resumes
    by the same command (docs/scaling.md).

    Exit code 4 if the model abstains for the one patient asked about: the object has the reason and the scores.
    """
    from cds_service.commands.patients.explain_folder import ExplanationLines
    from cds_service.commands.patients.score import opened_pipeline

    folder = files[0] if files[0].is_dir() else None
    if any(path.is_dir() for path in files) and (folder is None or len(files) > 1 or patient or encounter):
        raise click.UsageError("a folder is explained alone, without further files, --patient or --encounter")
    parallel.check(many=folder is not None)
    opened = PerProcess(partial(opened_pipeline, task, model and model.absolute(), "rules"))
    pipeline, asked = opened()
    if folder is not None:
        if _folder(folder, out, ExplanationLines(opened, as_of, site_map), parallel):
            ctx.exit(BAD_INPUT)
        return
    record = load_record(files, patient=patient, as_of=as_of, encounter=encounter, site_map=site_map)
    if _one(record, out, pipeline, asked):
        ctx.exit(ABSTAINED)


def _one(record: PatientRecord, out: Path | None, pipeline: Pipeline, task: str) -> bool:
    """Writes one patient's explanation; returns whether the model abstained."""
    from artifact_store import atomic_file
    from cds_service.commands.shared.model_sources import report_line
    from cds_service.commands.shared.prediction_times import time_to_try
    from cds_service.explanations.as_json import explanation

    assessment = pipeline.assess(record, task)
    text = orjson.dumps(
        explanation(assessment, pipeline, record), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    )
    if out is None:
        click.echo(text.decode(), nl=False)
    else:
        with atomic_file(out) as stream:
            stream.write(text)
    hint = time_to_try(record, assessment.estimate, pipeline)
    if hint:
        report_line(hint)
    return assessment.estimate.abstention is not None


def _folder(folder: Path, out: Path | None, maker: ExplanationLines, parallel: Parallel) -> int:
    """Writes one line a patient, to `out` or to standard output; returns the number of unreadable patients."""
    from cds_service.commands.patients.folder_lines import write_lines
    from cds_service.commands.shared.model_sources import report_line

    found = write_lines(folder, maker, out, parallel, label="patients explained")
    report_line(f"{found.answered} estimated, {found.abstained.total()} abstained, {found.refused} unreadable")
    if found.abstained and not found.answered and maker.as_of is None:
        report_line("no patient has a stay in time for an estimate at the end of the data; try --as-of TIME")
    return found.refused
