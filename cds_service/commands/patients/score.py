"""`riskcards score`: estimates risk as FHIR RiskAssessment."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from artifact_store import PerProcess
from cds_service.commands.patients.from_server import exported, fetched
from cds_service.commands.shared.exit_codes import ABSTAINED, BAD_INPUT
from cds_service.commands.shared.files import SiteMapType, TimeType, load_record
from cds_service.commands.shared.model_sources import READER_HELP
from cds_service.commands.shared.parallel import Parallel, parallel_options
from fhir_mapping import PatientRecord, SiteMap

if TYPE_CHECKING:
    from cds_service.commands.patients.score_folder import RiskAssessmentLines
    from risk_model import Assessment, Pipeline

_DEFAULT = "readmission_30d"


@click.command(name="score")
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--fhir-server", help="Base URL of a FHIR R4 server to read from, instead of FILES.")
@click.option("--smart-client", help="The client of RISKCARDS_SMART_CLIENTS to log in as (SMART Backend Services).")
@click.option("--group", help="With --smart-client and --out: export this Group instead of all patients.")
@click.option("--patient", help="The patient id.")
@click.option("--encounter", help="The encounter id of the stay.  [default: the stay at that time]")
@click.option(
    "--as-of", type=TimeType(), help="Use only data known at this time; a date means its end.  [default: all data]"
)
@click.option(
    "--task", help="readmission_30d or in_hospital_mortality.  [default: the task of --model, else readmission_30d]"
)
@click.option("--site-map", type=SiteMapType(), help="YAML file that translates a site's own codes.")
@click.option(
    "--model", type=click.Path(file_okay=False, path_type=Path), help="A model folder.  [default: the shipped model]"
)
@click.option("--note-reader", default="rules", show_default=True, help=READER_HELP)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="With a folder: the NDJSON file to write.")
@parallel_options()
@click.option(
    "--predictions",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With --out: also a parquet file of the answers in the schema of meds-evaluation; needs the extra [meds].",
)
@click.option(
    "--provenance",
    is_flag=True,
    help="Print a Bundle: RiskAssessment, its Provenance, the model as Device, and the model card.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the RiskAssessment as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    fhir_server: str | None,
    smart_client: str | None,
    group: str | None,
    patient: str | None,
    encounter: str | None,
    as_of: datetime | None,
    task: str | None,
    site_map: SiteMap | None,
    model: Path | None,
    note_reader: str,
    out: Path | None,
    parallel: Parallel,
    predictions: Path | None,
    provenance: bool,
    as_json: bool,
) -> None:
    """Estimate the risk of one patient from FHIR files or a FHIR server, or of every patient in a folder.

    \b
    riskcards score patient.json --task in_hospital_mortality --as-of 2024-02-11T03:00:00Z
    riskcards score --fhir-server http://127.0.0.1:8099/fhir --patient 123 --json

    \b
    riskcards score export/ --out risks.ndjson --task readmission_30d --model model/ --workers 8
    riskcards score --fhir-server https://ehr.example.org/fhir --smart-client general --out risks.ndjson

    Every RiskAssessment is labelled as made by AI and contains the model as a Device, by HL7's AI Transparency on FHIR;
    --provenance adds what it was made from.

    A folder (Bulk Data NDJSON or Bundles) gives one RiskAssessment per line, the same as the service gives; an
    unreadable patient gives an OperationOutcome and exit code 3. With --smart-client and --out the patients are first
    exported from the server (Bulk Data Access) with the client's key. An interrupted run resumes by the same command
    (docs/scaling.md).

    Exit code 4 if the model abstains: the output has the reason and the established scores.
    """
    from cds_service.commands.patients.score_folder import RiskAssessmentLines
    from cds_service.commands.shared.model_sources import report_line

    if provenance and out is not None:
        raise click.UsageError("--provenance is for one patient; every RiskAssessment of a folder contains its model")
    _check_use(fhir_server, smart_client, group, out, predictions)
    parallel.check(many=out is not None)
    opened = PerProcess(partial(opened_pipeline, task, model and model.absolute(), note_reader))
    pipeline, asked = opened()
    maker = RiskAssessmentLines(opened, as_of, site_map, note_reader)
    if smart_client and fhir_server and out is not None:
        if files or patient or encounter:
            raise click.UsageError("an export scores all patients: omit FILES, --patient and --encounter")
        with exported(fhir_server, smart_client, group) as folder:
            _bulk(ctx, folder, out, maker, parallel, predictions)
        return
    if any(path.is_dir() for path in files) or out is not None:
        if len(files) != 1 or not files[0].is_dir() or out is None or patient or encounter or fhir_server:
            raise click.UsageError("a folder needs --out FILE.ndjson, without --patient, --encounter or further files")
        _bulk(ctx, files[0], out, maker, parallel, predictions)
        return
    record = _record(files, fhir_server, smart_client, patient, encounter, as_of, site_map)
    if note_reader != "rules" and record.notes():
        report_line(f"{len(record.notes())} notes, read by {note_reader}; without a GPU that may take minutes")
    assessment = pipeline.assess(record, asked)
    if provenance:
        _print_bundle(assessment, pipeline)
    _report(ctx, record, assessment, pipeline, form="none" if provenance else "json" if as_json else "text")


def _print_bundle(assessment: Assessment, pipeline: Pipeline) -> None:
    """Prints the estimate with its model card and provenance as a Bundle."""
    from cds_service.commands.patients.score_bundle import assessment_bundle
    from risk_model import model_card

    bundle = assessment_bundle(
        assessment, model_card(pipeline.models[assessment.estimate.task].folder), datetime.now(UTC)
    )
    click.echo(orjson.dumps(bundle, option=orjson.OPT_INDENT_2).decode())


def _report(
    ctx: click.Context, record: PatientRecord, assessment: Assessment, pipeline: Pipeline, *, form: str
) -> None:
    """Prints one patient's estimate as `json`, `text` or `none`; exits with 4 where the model abstains."""
    from cds_service.cards.detail import detail
    from cds_service.commands.shared.model_sources import report_line
    from cds_service.commands.shared.prediction_times import time_to_try
    from risk_model import risk_assessment

    if form == "json":
        click.echo(orjson.dumps(risk_assessment(assessment), option=orjson.OPT_INDENT_2).decode())
    elif form == "text":
        click.echo(detail([assessment], record))
    if hint := time_to_try(record, assessment.estimate, pipeline):
        report_line(hint)
    if assessment.estimate.abstention is not None:
        ctx.exit(ABSTAINED)


def _check_use(
    fhir_server: str | None, smart_client: str | None, group: str | None, out: Path | None, predictions: Path | None
) -> None:
    if smart_client and not fhir_server:
        raise click.UsageError("--smart-client needs --fhir-server URL")
    if predictions is not None and out is None:
        raise click.UsageError("--predictions needs a folder and --out FILE.ndjson")
    if group and not (smart_client and out):
        raise click.UsageError("--group needs --smart-client and --out")


def opened_pipeline(task: str | None, model: Path | None, note_reader: str) -> tuple[Pipeline, str]:
    """Returns the pipeline and the task to estimate.

    Raises UsageError for an unknown task, ModelArtifactError if the model estimates another one.
    """
    from cds_service.background.language_models import asked_at_once
    from cds_service.commands.shared.model_sources import open_reader, opened_models
    from cds_service.commands.shared.opened import opened_settings
    from risk_model import TASKS, ModelArtifactError, Pipeline, RiskModel

    models = opened_models()
    wrap = None if note_reader == "rules" else open_reader(note_reader, models)
    if model is None:
        if task not in {None, *TASKS}:
            raise click.UsageError(f"--task {task}: the shipped models answer {', '.join(TASKS)}; or give --model")
        return Pipeline.shipped(wrap=wrap), task or _DEFAULT
    opened = RiskModel.open(model)
    if task not in {None, opened.task}:
        raise ModelArtifactError(f"this model answers {opened.task}; use --task {opened.task}", path=str(model))
    return Pipeline.with_model(opened, wrap, asked_at_once(opened_settings(), models)), opened.task


def _bulk(
    ctx: click.Context,
    folder: Path,
    out: Path,
    maker: RiskAssessmentLines,
    parallel: Parallel,
    predictions: Path | None,
) -> None:
    from cds_service.commands.patients.folder_lines import write_lines
    from cds_service.commands.shared.model_sources import report_line

    found = write_lines(folder, maker, out, parallel, label="patients scored", predictions=predictions)
    report_line(f"{found.answered} answered, {found.abstained.total()} declined, {found.refused} unreadable: {out}")
    for code, count in found.abstained.most_common():
        report_line(f"  declined {count}: {code}")
    if not found.answered and "no-inpatient-stay" in found.abstained and maker.as_of is None:
        report_line("  no stay is open at the end of the data; use --as-of TIME to score at an earlier time")
    for place, reason in found.named:
        report_line(f"  unreadable: {place}: {reason}")
    if found.refused:
        ctx.exit(BAD_INPUT)


def _record(
    files: tuple[Path, ...],
    server: str | None,
    smart_client: str | None,
    patient: str | None,
    encounter: str | None,
    as_of: datetime | None,
    site_map: SiteMap | None,
) -> PatientRecord:
    if bool(files) == bool(server):
        raise click.UsageError("give FILES, or --fhir-server with --patient")
    if server is None:
        return load_record(files, patient=patient, as_of=as_of, encounter=encounter, site_map=site_map)
    if not patient:
        raise click.UsageError("--fhir-server needs --patient ID")
    resources, not_fetched = fetched(server, smart_client, patient)
    return PatientRecord.from_resources(
        resources, patient, as_of, encounter_id=encounter, not_fetched=not_fetched, site_map=site_map
    )
