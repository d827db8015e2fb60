"""Reading the FILE arguments of commands: JSON or NDJSON, gzip or plain, several files of one patient."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

import click

from artifact_store import atomic_file
from fhir_mapping import DefinitionError, InvalidInputError, PatientRecord, SiteMap
from fhir_mapping.bulk import BUNDLES, LINES
from fhir_mapping.core import moment, parse_instant
from fhir_mapping.parsing import ParsedInput, read_bytes

MAX_FILE = 512 * 2**20


def read_file(path: Path) -> bytes:
    """The bytes of a file, gunzipped when its name ends in `.gz`. Raises InvalidInputError."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                data = stream.read(MAX_FILE + 1)
        else:
            data = path.read_bytes()
    except (OSError, EOFError) as error:
        raise InvalidInputError(f"cannot be read ({error.__class__.__name__}: {error})") from None
    if len(data) > MAX_FILE:
        raise InvalidInputError(f"larger than {MAX_FILE // 2**20} MiB")
    return data


def line_files(folder: Path) -> list[Path]:
    """The NDJSON files of a folder and its subfolders."""
    return _ending(folder, LINES)


def bundle_files(folder: Path) -> list[Path]:
    """The Bundle files of a folder and its subfolders, one Bundle each."""
    return _ending(folder, BUNDLES)


def text_files(folder: Path) -> list[Path]:
    """The plain text notes of a folder and its subfolders."""
    return _ending(folder, (".txt", ".txt.gz"))


@contextmanager
def output_stream(out: Path | None) -> Iterator[IO[bytes]]:
    """The file `out`, written atomically, or standard output."""
    if out is None:
        yield sys.stdout.buffer
        return
    with atomic_file(out) as stream:
        yield stream


def _ending(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name.endswith(suffixes))


def load_record(
    paths: Sequence[Path],
    *,
    patient: str | None,
    as_of: datetime | None,
    encounter: str | None,
    site_map: SiteMap | None = None,
) -> PatientRecord:
    """One PatientRecord from one or several files."""
    try:
        if len(paths) == 1:
            raw = read_file(paths[0])
            return PatientRecord.from_json(raw, patient, as_of, encounter_id=encounter, site_map=site_map)
        parsed = ParsedInput.merged(_parsed(path) for path in paths)
    except InvalidInputError as error:
        if len(paths) == 1:
            raise InvalidInputError(f"{paths[0]}: {error}") from None
        raise
    return PatientRecord.from_parsed(parsed, patient, as_of, encounter_id=encounter, site_map=site_map)


class SiteMapType(click.ParamType):  # type: ignore[type-arg]  # subscriptable only since click 8.2
    """A site map file, validated when the option is parsed."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> SiteMap:
        if isinstance(value, SiteMap):
            return value
        try:
            return SiteMap.open(str(value))
        except DefinitionError as error:
            self.fail(str(error), param, ctx)


def site_map_file(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Validates a site map and returns its path, so that a mistake in it stops the command before any work."""
    try:
        if value is not None:
            SiteMap.open(value)
    except DefinitionError as error:
        raise click.BadParameter(str(error)) from None
    return value


def _parsed(path: Path) -> ParsedInput:
    try:
        return read_bytes(read_file(path))
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None


class TimeType(click.ParamType):  # type: ignore[type-arg]  # subscriptable only since click 8.2
    """A FHIR date or dateTime; a bare date means the end of that day."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        instant = parse_instant(value)
        if instant is None:
            self.fail(f"{value!r} is not a date such as 2024-05-01 or a time such as 2024-05-01T10:00:00Z", param, ctx)
        return moment(instant)
