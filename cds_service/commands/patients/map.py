"""`riskcards map`: FHIR in; features, notes, Markdown, codes or MEDS out. One patient, or a folder of any number."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
import orjson

from artifact_store import atomic_file
from cds_service.commands.patients.map_folder import FORMS, Form, map_folder
from cds_service.commands.patients.map_strict import faults_in
from cds_service.commands.patients.map_text import as_text
from cds_service.commands.shared.files import SiteMapType, TimeType, load_record
from fhir_mapping import SiteMap

BAD_INPUT = 3


@click.command(name="map")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--as-of", type=TimeType(), help="What was known at this time; a bare date means its end. Default: all.")
@click.option("--patient", help="Which patient, when a file holds several.")
@click.option("--encounter", help="Id of the stay to look at; default: the one running at that time.")
@click.option("--site-map", type=SiteMapType(), help="YAML file that translates a site's own codes.")
@click.option("--to", "form", type=click.Choice(FORMS), default="features", show_default=True)
@click.option(
    "--budget", type=click.IntRange(min=1), default=4096, show_default=True, help="Tokens for markdown, codes."
)
@click.option("--json", "as_json", is_flag=True, help="For programs to read. A folder always gives JSON Lines.")
@click.option("--out", type=click.Path(path_type=Path), help="Write there: a file; with --to meds a new MEDS dataset.")
@click.option("--splits", is_flag=True, help="With --to meds --out: train, tuning, held_out by patient.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="Keep a folder's progress here; resume.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="For folders.")
@click.option("--strict", is_flag=True, help="First check every resource against all of FHIR; stop at faults.")
@click.option("--fhir-version", type=click.Choice(["R4", "R5"]), help="For --strict; default: whichever fits better.")
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
    work: Path | None,
    processes: int,
    strict: bool,
    fhir_version: str | None,
) -> None:
    """What a FHIR record holds, as known at one moment.

    FILES are JSON Bundles, lists or NDJSON, plain or .gz; several are read as one patient. One folder instead is many
    patients: Bulk Data (*.ndjson, *.ndjson.gz, a resource type in one or several files) or a Bundle to a file.

    \b
    riskcards map patient.json --as-of 2024-05-01 --to features      values in canonical units, unknowns with reasons
    riskcards map patient.json --to notes --json                     notes as plain text with their sections
    riskcards map patient.json --to markdown --budget 8192           the record as text for a language model
    riskcards map patient.json --strict                              is it valid FHIR? every fault with its path
    riskcards map export/ --to features --out features.jsonl         a Bulk Data export, one line to a patient
    riskcards map export/ --to meds --out dataset/ --splits          a MEDS dataset for research
    riskcards map export/ --work state/ --out all.jsonl --processes 2    stopped? the same command goes on

    What is unknown or refused says why. Nothing later than --as-of shows; what bears no date is known from the end of
    its encounter on. Lines and patients that cannot be read are named on standard error, and everything else is kept.

    Exit codes: 0 done, 2 wrong use, 3 something in the input could not be read (or is not valid FHIR, with --strict).
    """
    folder = _folder(files)
    _check_use(folder, form, out, patient=patient, encounter=encounter, splits=splits, work=work)
    if strict:
        found = faults_in(files, fhir_version)
        if found.faults:
            click.echo(found.to_json() if as_json else found.to_text())
            raise click.exceptions.Exit(BAD_INPUT)
        click.echo(f"valid FHIR: {found.resources} resources", err=True)
    wanted = Form(form, budget, as_of, site_map)
    if folder is not None:
        if map_folder(folder, wanted, out=out, work=work, processes=processes, splits=splits):
            raise click.exceptions.Exit(BAD_INPUT)
        return
    record = load_record(files, patient=patient, as_of=as_of, encounter=encounter, site_map=site_map)
    if form == "meds" and out is not None:
        from fhir_mapping.bulk import MedsWriter

        with MedsWriter(out, created_at=datetime.now(UTC), version=version("riskcards"), splits=splits) as dataset:
            dataset.add(record)
        click.echo(f"{out}: a MEDS dataset of 1 patient", err=True)
        return
    text = (
        orjson.dumps(wanted.document(record), option=orjson.OPT_INDENT_2).decode()
        if as_json
        else as_text(record, form, budget)
    )
    if out is not None:
        with atomic_file(out) as stream:
            stream.write(f"{text}\n".encode())
    else:
        click.echo(text)


def _folder(files: tuple[Path, ...]) -> Path | None:
    folders = [path for path in files if path.is_dir()]
    if folders and len(files) > 1:
        raise click.UsageError("give one folder, or files of one patient; not both, and not several folders")
    return folders[0] if folders else None


def _check_use(
    folder: Path | None,
    form: str,
    out: Path | None,
    *,
    patient: str | None,
    encounter: str | None,
    splits: bool,
    work: Path | None,
) -> None:
    if folder is not None and (patient or encounter):
        raise click.UsageError("--patient and --encounter choose within files; a folder gives every patient")
    if folder is not None and form == "meds" and out is None:
        raise click.UsageError("--to meds of a folder needs --out DIR for the dataset")
    if folder is None and work is not None:
        raise click.UsageError("--work keeps the progress of a folder; there is none")
    if splits and (form != "meds" or out is None):
        raise click.UsageError("--splits goes with --to meds --out DIR")
    if out is not None and out.is_dir() and form != "meds":
        raise click.UsageError(f"--out {out} is a folder; give a file")
