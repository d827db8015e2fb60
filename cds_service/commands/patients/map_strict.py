"""`riskcards map --strict`: validates every resource of the input against FHIR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson

from cds_service.commands.shared.files import bundle_files, line_files, read_file
from fhir_mapping import InvalidInputError
from fhir_mapping.bulk import lines_of
from fhir_mapping.parsing import FhirFault, ResourceEntry, Validator, Version, read_bytes


@dataclass(frozen=True, slots=True)
class ValidationFaults:
    """The number of validated resources, and their faults as (file, resource, fault)."""

    resources: int
    faults: tuple[tuple[str, str, FhirFault], ...]

    def to_json(self) -> str:
        rows = [
            {"file": file, "resource": source, "path": fault.path, "message": fault.message, "version": fault.version}
            for file, source, fault in self.faults
        ]
        document = {"valid": not rows, "resources": self.resources, "faults": rows}
        return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()

    def to_text(self) -> str:
        lines = [
            f"{file}: {source}: {fault.path + ': ' if fault.path else ''}{fault.message} ({fault.version})"
            for file, source, fault in self.faults
        ]
        return "\n".join([*lines, f"{len(lines)} faults in {self.resources} resources"])


def faults_in(paths: Sequence[Path], version: str | None) -> ValidationFaults:
    """Validate the resources of files, or of a folder's files."""
    validator = Validator(cast(Version | None, version))
    faults: list[tuple[str, str, FhirFault]] = []
    resources = 0
    for file, source, entry in _entries(paths):
        if isinstance(entry, ResourceEntry):
            resources += 1
            faults.extend((file, source, fault) for fault in validator.faults(entry.resource))
        else:
            faults.append((file, source, FhirFault("", entry, cast(Version, version or "R4"))))
    return ValidationFaults(resources, tuple(faults))


def _entries(paths: Sequence[Path]) -> Iterator[tuple[str, str, ResourceEntry | str]]:
    """Yields (file, resource, entry), with an error message in place of an unreadable entry."""
    for path in paths:
        if path.is_dir():
            for file in line_files(path):
                yield from _lines(file)
            yield from _entries(bundle_files(path))
            continue
        try:
            reading = read_bytes(read_file(path))
        except InvalidInputError as error:
            yield str(path), "-", str(error)
            continue
        for position, entry in enumerate(reading.entries):
            yield str(path), entry.source(position), entry


def _lines(path: Path) -> Iterator[tuple[str, str, ResourceEntry | str]]:
    broken: list[tuple[str, str]] = []
    for number, line in lines_of(path, path.name, lambda place, reason: broken.append((place, reason))):
        try:
            entry = read_bytes(line).entries[0]
            yield f"{path}:{number}", entry.source(number), entry
        except (InvalidInputError, IndexError) as error:
            yield f"{path}:{number}", "-", str(error)
    for place, reason in broken:
        yield f"{path.parent / place}", "-", reason
