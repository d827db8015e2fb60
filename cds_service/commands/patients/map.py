"""`riskcards map`: converts one patient or a folder from FHIR to features, notes, Markdown, codes or MEDS."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import orjson

from artifact_store import atomic_file
from cds_service.commands.patients.deidentification import deidentification_options, deidentifier_of
from cds_service.commands.patients.map_folder import FORMS, Form, map_folder
from cds_service.commands.patients.map_strict import faults_in
from cds_service.commands.patients.map_text import as_text
from cds_service.commands.shared.files import SiteMapType, TimeType, load_record, text_files
from cds_service.commands.shared.parallel import Parallel, parallel_options
from fhir_mapping import PatientRecord, SiteMap

BAD_INPUT = 3


@click.command(name="map")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--as-of", type=TimeType(), help="Use only data known at this time; a date means its end.  [default: all data]"
)
@click.option("--patient", help="The patient id, if the files hold several patients.")
@click.option("--encounter", help="The encounter id of the stay.  [default: the stay at that time]")
@click.option("--site-map", type=SiteMapType(), help="YAML file that translates a site's own codes.")
@click.option("--to", "form", type=click.Choice(FORMS), default="features", show_default=True)
@click.option(
    "--budget", type=click.IntRange(min=1), default=4096, show_default=True, help="Most tokens of markdown and codes."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON. A folder always gives JSON Lines.")
@click.option("--out", type=click.Path(path_type=Path), help="Output file; with --to meds a new dataset folder.")
@click.option("--splits", is_flag=True, help="With --to meds --out: split patients into train, tuning, held_out.")
@parallel_options("--processes")
@deidentification_options
@click.option("--strict", is_flag=True, help="First validate every resource against FHIR; stop if any is invalid.")
@click.option(
    "--fhir-version", type=click.Choice(["R4", "R5"]), help="For --strict.  [default: the one that fits better]"
)
def command(
    files: tuple[Path, ...],
    as_of: datetime | None,
    patient: str | None,
    encounter: str | None,
    site_map: SiteMap | None,
    form: str,
    budget: int,
    as_json: bool,
    out: Path | None,
    splits: bool,
    parallel: Parallel,
    deidentify: bool,
    key_file: Path | None,
    keep_weekdays: bool,
    strict: bool,
    fhir_version: str | None,
) -> None:
    """Convert FHIR to features, notes, findings, Markdown, codes or MEDS, as known at one time.

    FILES are JSON Bundles, lists or NDJSON, plain or .gz; several are read as one patient (with --to findings each by
    itself, and .txt files are notes). A folder holds many
    patients: Bulk Data (*.ndjson, *.ndjson.gz, one or several files per resource type) or one Bundle per file.

    \b
    riskcards map patient.json --as-of 2024-05-01 --to features      values in canonical units, unknowns with reasons
    riskcards map patient.json --to notes --json                     notes as plain text with their sections
    riskcards map note.txt more/*.txt --to findings --json           findings and values of notes, one line per file
    riskcards map patient.json --to markdown --budget 8192           the record as text for a language model
    riskcards map patient.json --strict                              validate FHIR; every fault with its path
    riskcards map export/ --to features --out features.jsonl         a Bulk Data export, one line per patient
    riskcards map export/ --to meds --out dataset/ --splits          a MEDS dataset for research
    riskcards map export/ --out all.jsonl --workers 2                run again to resume (docs/scaling.md)
    riskcards map export/ --to notes --deidentify --key-file site.key    without who and when (docs/deidentification.md)

    Unknown features and refused resources have reason codes. Data later than --as-of are excluded; undated data count
    from the end of their encounter. Unreadable lines and patients are reported on standard error and skipped.

    Exit codes: 0 done, 2 usage error, 3 part of the input is unreadable (or invalid FHIR, with --strict).
    """
    folder = _folder(files)
    if folder is not None and form == "findings" and (texts := text_files(folder)):
        files, folder = tuple(texts), None
    _check_use(folder, form, out, patient=patient, encounter=encounter, splits=splits)
    parallel.check(many=folder is not None)
    if strict:
        _validate(files, fhir_version, as_json=as_json)
    by = deidentifier_of(deidentify, key_file, keep_weekdays=keep_weekdays, resumable=parallel.work is not None)
    wanted = Form(form, budget, as_of, site_map, by)
    if form == "findings" and folder is None:
        from cds_service.commands.patients.map_findings import PatientChoice, map_findings

        partly = map_findings(files, wanted, PatientChoice(patient, encounter), as_json=as_json, out=out)
    elif folder is not None:
        _check_text(files)
        partly = map_folder(folder, wanted, out=out, parallel=parallel, splits=splits)
    else:
        _check_text(files)
        record = load_record(files, patient=patient, as_of=as_of, encounter=encounter, site_map=site_map)
        partly = False
        if by is not None:
            record, wanted = by.record(record), replace(wanted, deidentifier=None)
        _write(record, wanted, out, as_json=as_json, splits=splits)
    if partly:
        raise click.exceptions.Exit(BAD_INPUT)


def _validate(files: tuple[Path, ...], fhir_version: str | None, *, as_json: bool) -> None:
    """Prints the faults of invalid FHIR and exits; says how much is valid otherwise."""
    found = faults_in(files, fhir_version)
    if found.faults:
        click.echo(found.to_json() if as_json else found.to_text())
        raise click.exceptions.Exit(BAD_INPUT)
    click.echo(f"valid FHIR: {found.resources} resources", err=True)


def _write(record: PatientRecord, form: Form, out: Path | None, *, as_json: bool, splits: bool) -> None:
    """Writes one record to `out` or standard output; as MEDS to `out`, a new dataset."""
    if form.name == "meds" and out is not None:
        from fhir_mapping.bulk import MedsWriter

        with MedsWriter(out, created_at=datetime.now(UTC), version=version("riskcards"), splits=splits) as dataset:
            dataset.add(record)
        click.echo(f"{out}: a MEDS dataset of 1 patient", err=True)
        return
    text = (
        orjson.dumps(form.document(record), option=orjson.OPT_INDENT_2).decode()
        if as_json
        else as_text(record, form.name, form.budget)
    )
    if out is None:
        click.echo(text)
        return
    with atomic_file(out) as stream:
        stream.write(f"{text}\n".encode())


def _check_text(files: tuple[Path, ...]) -> None:
    text = next((path for path in files if path.suffix.lower() == ".txt"), None)
    if text is not None:
        raise click.UsageError(f"{text}: a plain text note; use --to findings")


def _folder(files: tuple[Path, ...]) -> Path | None:
    folders = [path for path in files if path.is_dir()]
    if folders and len(files) > 1:
        raise click.UsageError("give either one folder or the files of one patient")
    return folders[0] if folders else None


def _check_use(
    folder: Path | None,
    form: str,
    out: Path | None,
    *,
    patient: str | None,
    encounter: str | None,
    splits: bool,
) -> None:
    if folder is not None and (patient or encounter):
        raise click.UsageError("--patient and --encounter apply to files; a folder converts every patient")
    if folder is not None and form == "meds" and out is None:
        raise click.UsageError("--to meds of a folder needs --out DIR for the dataset")
    if splits and (form != "meds" or out is None):
        raise click.UsageError("--splits needs --to meds --out DIR")
    if out is not None and out.is_dir() and form != "meds":
        raise click.UsageError(f"--out {out} is a folder; give a file")
