"""`riskcards explain`: what the card and the app say of an estimate, as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from cds_service.commands.shared.exit_codes import ABSTAINED, BAD_INPUT
from cds_service.commands.shared.files import SiteMapType, TimeType, load_record

if TYPE_CHECKING:
    from fhir_mapping import PatientRecord, SiteMap
    from risk_model import Pipeline

Write = Callable[[bytes], Any]


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
    _json: bool,
) -> None:
    """Explain the estimate of one patient, or of every patient in a folder, as JSON.

    \b
    riskcards explain patient.json --task in_hospital_mortality --as-of 2024-02-11T03:00:00Z
    riskcards explain export/ --task readmission_30d --out explained.ndjson

    One patient gives one object: estimate, drivers, scores, literature. A folder (Bulk Data NDJSON or Bundles) gives
    one line a patient; an unreadable patient gives a line with its "error", and exit code 3.

    Exit code 4 if the model abstains for the one patient asked about: the object has the reason and the scores.
    """
    from cds_service.commands.patients.score import opened_pipeline

    folder = files[0] if files[0].is_dir() else None
    if any(path.is_dir() for path in files) and (folder is None or len(files) > 1 or patient or encounter):
        raise click.UsageError("a folder is explained alone, without further files, --patient or --encounter")
    pipeline, asked = opened_pipeline(task, model, "rules")
    if folder is not None:
        refused = _folder(folder, out, pipeline, asked, as_of, site_map)
        if refused:
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


def _folder(
    folder: Path, out: Path | None, pipeline: Pipeline, task: str, as_of: datetime | None, site_map: SiteMap | None
) -> int:
    """Writes one line a patient, to `out` or to standard output; returns the number of unreadable patients."""
    from artifact_store import atomic_file

    if out is None:
        return _lines(folder, sys.stdout.buffer.write, pipeline, task, as_of, site_map)
    with atomic_file(out) as stream:
        return _lines(folder, stream.write, pipeline, task, as_of, site_map)


def _lines(
    folder: Path, write: Write, pipeline: Pipeline, task: str, as_of: datetime | None, site_map: SiteMap | None
) -> int:
    from cds_service.commands.patients.score_folder import not_read
    from cds_service.commands.shared.model_sources import counting, report_line
    from cds_service.explanations.as_json import explanation
    from fhir_mapping import FhirMappingError
    from risk_model.cohorts import FhirFolder

    answered = abstained = refused = 0
    with FhirFolder(folder, report_line, strict=False) as source, counting("patients explained") as progress:
        for number, patient in enumerate(source.patients(), start=1):
            line: dict[str, Any]
            try:
                record = patient.record(as_of, site_map)
                assessment = pipeline.assess(record, task)
            except FhirMappingError as error:
                refused += 1
                line = {"subject_id": patient.subject_id, "task": task, "error": str(error)}
            else:
                line = explanation(assessment, pipeline, record)
                answered += assessment.estimate.abstention is None
                abstained += assessment.estimate.abstention is not None
            write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            progress(number, source.patient_count)
        for place, reason in not_read(source):
            refused += 1
            name = {"subject_id": place.removeprefix("Patient/")} if place.startswith("Patient/") else {"file": place}
            write(orjson.dumps({**name, "task": task, "error": reason}, option=orjson.OPT_APPEND_NEWLINE))
    report_line(f"{answered} estimated, {abstained} abstained, {refused} unreadable")
    if abstained and not answered and as_of is None:
        report_line("no patient has a stay in time for an estimate at the end of the data; try --as-of TIME")
    return refused
