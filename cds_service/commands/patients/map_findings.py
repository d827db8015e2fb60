"""`riskcards map FILE... --to findings`: what notes say, of FHIR files and of plain text files."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import click
import orjson

from artifact_store import atomic_file
from cds_service.commands.patients.findings_reader import FindingsReader
from cds_service.commands.patients.map_folder import Form
from cds_service.commands.shared.files import read_file
from fhir_mapping import FhirMappingError, InvalidInputError, Note, PatientRecord, Refusal
from fhir_mapping.notes import text_note

TEXT = ".txt"


def map_findings(files: Sequence[Path], form: Form, choice: PatientChoice, *, as_json: bool, out: Path | None) -> int:
    """Writes one document a file, as JSON Lines for several files; returns the number of files that are unreadable."""
    reader = FindingsReader()
    faults = 0
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(atomic_file(out)) if out is not None else sys.stdout.buffer
        for number, path in enumerate(files, start=1):
            # A file may be named after its patient.
            named = str(path) if form.deidentifier is None else f"file {number}"
            try:
                document = {"file": named} | reader.document(*_notes(path, form, choice))
            except FhirMappingError as error:
                if len(files) == 1:
                    raise
                click.echo(f"{path}: {error}" if str(path) not in str(error) else str(error), err=True)
                faults += 1
                continue
            stream.write(_written(document, as_json=as_json, alone=len(files) == 1))
        stream.flush()
    return faults


@dataclass(frozen=True, slots=True)
class PatientChoice:
    """The patient and the stay of FHIR files, as the command's options name them."""

    patient: str | None = None
    encounter: str | None = None


def _notes(path: Path, form: Form, choice: PatientChoice) -> tuple[Sequence[Note], Sequence[Refusal]]:
    raw = read_file(path)
    if path.name.removesuffix(".gz").lower().endswith(TEXT):
        note = text_note(raw, str(path))
        if form.deidentifier is not None:
            note = form.deidentifier.note(note, str(path), datetime.now(UTC).year)
        return (note,), ()
    try:
        record = PatientRecord.from_json(
            raw, choice.patient, form.as_of, encounter_id=choice.encounter, site_map=form.site_map
        )
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    if form.deidentifier is not None:
        record = form.deidentifier.record(record)
    return record.notes(), record.refused


def _written(document: dict[str, Any], *, as_json: bool, alone: bool) -> bytes:
    if as_json:
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if alone else 0))
    return ("\n".join(_lines(document)) + "\n").encode()


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield f"{document['file']}: {len(document['findings'])} findings, {len(document['values'])} values"
    for found in document["findings"]:
        yield f"  {found['name']:<40} {_context(found):<32} {_quoted(found)}"
    for value in document["values"]:
        number = f"grade {value['grade']}" if value["value"] is None else f"{value['value']:g} {value['unit'] or ''}"
        yield f"  {value['concept'] + ' ' + number:<40} {_context(value):<32} {_quoted(value)}"
    for unread in document["not_read"]:
        yield f"  {'not read to its end' if unread['part'] else 'not read'}: {unread['note']} ({unread['reason']})"


def _context(item: dict[str, Any]) -> str:
    return ", ".join(item[name] for name in ("polarity", "temporality", "experiencer"))


def _quoted(item: dict[str, Any]) -> str:
    return f'{item["note"]} {item["start"]}-{item["end"]} "{" ".join(item["quote"].split())}"'
