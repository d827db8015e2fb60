"""`riskcards map`: FHIR files in; features, notes, Markdown, codes or MEDS rows out."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path

import click
import orjson

from cds_service.commands.files import TimeType, load_record
from fhir_mapping import FeatureVector, Note, PatientRecord

FORMS = ("features", "notes", "markdown", "codes", "meds")


@click.command(name="map")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--as-of", type=TimeType(), help="What was known at this time; a bare date means its end. Default: all.")
@click.option("--patient", help="Which patient, when a file holds several.")
@click.option("--encounter", help="Id of the stay to look at; default: the one running at that time.")
@click.option("--to", "form", type=click.Choice(FORMS), default="features", show_default=True)
@click.option(
    "--budget", type=click.IntRange(min=1), default=4096, show_default=True, help="Tokens for markdown, codes."
)
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
def command(
    files: tuple[Path, ...],
    as_of: datetime | None,
    patient: str | None,
    encounter: str | None,
    form: str,
    budget: int,
    as_json: bool,
) -> None:
    """What a FHIR record holds, as known at one moment.

    FILES are JSON Bundles, lists or NDJSON, plain or .gz; several are read as one patient.

    \b
    riskcards map patient.json --as-of 2024-05-01 --to features
    riskcards map patient.json --to notes --json

    Values are in canonical units; what is unknown or refused says why. Nothing later than --as-of shows.
    """
    record = load_record(files, patient=patient, as_of=as_of, encounter=encounter)
    if as_json:
        click.echo(orjson.dumps(_document(record, form, budget), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(_text(record, form, budget))


def _document(record: PatientRecord, form: str, budget: int) -> dict[str, object]:
    head: dict[str, object] = {"subject_id": record.subject_id, "prediction_time": record.prediction_time.isoformat()}
    if form == "features":
        return record.features().to_json()
    if form == "notes":
        return head | {"notes": [note.to_json() for note in record.notes()]}
    if form == "meds":
        return head | {"meds": list(record.to_meds())}
    return head | {form: record.to_markdown(budget) if form == "markdown" else record.to_codes(budget)}


def _text(record: PatientRecord, form: str, budget: int) -> str:
    if form == "markdown":
        return record.to_markdown(budget)
    if form == "codes":
        return record.to_codes(budget)
    head = f"{record.subject_id} as of {record.prediction_time:%Y-%m-%d %H:%M} UTC\n"
    if form == "notes":
        return head + _notes(record.notes())
    if form == "meds":
        rows = (f"{row['time'] or 'static':<34}{row['code']:<44}{_value(row)}" for row in record.to_meds())
        return head + "\n".join(rows)
    return head + _features(record.features())


def _value(row: dict[str, object]) -> str:
    return str(row["numeric_value"] if row["numeric_value"] is not None else row["text_value"] or "")


def _features(vector: FeatureVector) -> str:
    lines = []
    for name, feature in vector.values.items():
        when = "" if feature.time is None else f"{feature.time:%Y-%m-%d %H:%M}"
        value = feature.value if isinstance(feature.value, str) else f"{feature.value:g}"
        lines.append(f"  {name:<32}{value:>12} {feature.unit or '':<10}{when:<18}{', '.join(feature.sources[:2])}")
    lines.append(f"\nunknown ({len(vector.unknown)})")
    lines += [f"  {name:<32}{reason}" for name, reason in vector.unknown.items()]
    lines.append(f"\nrefused ({len(vector.refused)})")
    lines += [f"  {reason:<32}{count}" for reason, count in Counter(r.reason for r in vector.refused).most_common()]
    return "\n".join(lines)


def _notes(notes: tuple[Note, ...]) -> str:
    lines = [f"{len(notes)} notes"]
    for note in notes:
        when = "time unknown" if note.time is None else f"{note.time:%Y-%m-%d %H:%M}"
        lines.append(f"\n== {note.type} · {when} · {note.source} · {note.status}")
        lines.append(note.text)
    return "\n".join(lines)
