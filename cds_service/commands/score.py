"""`riskcards score`: a patient's risk as a FHIR RiskAssessment."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click
import orjson

from cds_service.commands.files import TimeType, load_record
from fhir_mapping import InvalidInputError, PatientRecord

ABSTAINED = 4
_TASKS = ("in_hospital_mortality", "readmission_30d")


@click.command(name="score")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--fhir-server", help="Base URL of a FHIR R4 server to read the patient from, instead of FILES.")
@click.option("--patient", help="Id of the patient.")
@click.option("--encounter", help="Id of the stay; default: the one running at that time.")
@click.option("--as-of", type=TimeType(), help="What was known at this time; a bare date means its end. Default: all.")
@click.option("--task", type=click.Choice(_TASKS), default="readmission_30d", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The RiskAssessment itself.")
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[Path, ...],
    fhir_server: str | None,
    patient: str | None,
    encounter: str | None,
    as_of: datetime | None,
    task: str,
    as_json: bool,
) -> None:
    """Estimate one patient's risk, from FHIR files or a FHIR server.

    \b
    riskcards score patient.json --task in_hospital_mortality --as-of 2024-02-11T03:00:00Z
    riskcards score --fhir-server http://127.0.0.1:8099/fhir --patient 123 --json

    Exit code 4 when the model abstains: the answer then says why, and still holds the established scores.
    """
    from cds_service.cards.detail import detail
    from risk_model import Pipeline, risk_assessment

    record = _record(files, fhir_server, patient, encounter, as_of)
    assessment = Pipeline.shipped().assess(record, task)
    if as_json:
        click.echo(orjson.dumps(risk_assessment(assessment), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(detail([assessment], record))
    if assessment.estimate.abstention is not None:
        ctx.exit(ABSTAINED)


def _record(
    files: tuple[Path, ...], server: str | None, patient: str | None, encounter: str | None, as_of: datetime | None
) -> PatientRecord:
    if bool(files) == bool(server):
        raise click.UsageError("give FILES, or --fhir-server with --patient")
    if server is None:
        return load_record(files, patient=patient, as_of=as_of, encounter=encounter)
    if not patient:
        raise click.UsageError("--fhir-server needs --patient ID")
    from cds_service.gateway import GatewayError, fetch_patient_resources

    try:
        resources, not_fetched = fetch_patient_resources(server, patient)
    except GatewayError as error:
        # Whatever the server's trouble, it is not our fault (exit 1): the input could not be had (exit 3).
        raise InvalidInputError(f"{server}: the patient could not be read: {error}") from None
    return PatientRecord.from_resources(resources, patient, as_of, encounter_id=encounter, not_fetched=not_fetched)
