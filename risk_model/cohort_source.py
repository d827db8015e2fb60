"""A folder of FHIR as patients, one at a time: Bulk Data NDJSON, or a Bundle to a file; plain or .gz.

Resources of one patient may lie in any file in any order. They are dealt by patient into shards on disk first, so that
memory holds one shard at a time, whatever the size of the export. References by `urn:uuid` or absolute URL are made
relative where the input itself says what they mean, so that a patient's resources can stand alone.

A patient's resources come with the Location and Medication resources they point at. A type of resource of which the
folder has none at all counts as not fetched: that nobody exported procedures does not mean that there were none.
"""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from fhir_mapping import InvalidInputError
from fhir_mapping.belonging import CLINICAL, NOTE_TYPES
from fhir_mapping.reading import Entry, read_bundle
from fhir_mapping.references import Directory
from risk_model.errors import CohortError

Resource = dict[str, Any]
Progress = Callable[[str], None]
_SUFFIXES = (".ndjson", ".ndjson.gz", ".json", ".json.gz", ".jsonl", ".jsonl.gz")
_OF_A_PATIENT = CLINICAL | NOTE_TYPES
_SHARED = frozenset({"Location", "Medication", "Binary"})
# What refers to a shared resource: the place of a stay, the drug of an order, the text of a note.
_POINTING = frozenset(
    {"Encounter", "MedicationRequest", "MedicationStatement", "DocumentReference", "Location", "Medication"}
)
_SHARDS = 64
_REPORT_EVERY = 50_000


@dataclass(frozen=True, slots=True)
class PatientData:
    """All the resources of one patient, its Patient first, and the folder's own split for it, if it has one."""

    subject_id: str
    resources: tuple[Resource, ...]
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds: how many resources of each type, and how many belong to nobody that could be proven."""

    types: dict[str, int]
    unowned: int


class FhirFolder:
    """FhirFolder(path) reads a folder once; `.patients()` then gives PatientData in the order of their ids.

    Raises CohortError for a folder without FHIR or without a Patient, and InvalidInputError naming file and line for
    anything that is not FHIR JSON.
    """

    def __init__(self, folder: Path, progress: Progress = lambda _: None) -> None:
        self.files = _files(folder)
        self._folder = tempfile.TemporaryDirectory(prefix="riskcards-cohort-")
        self._shared: dict[str, Resource] = {}
        try:
            self.found = self._deal(progress)
            if not self.found.types.get("Patient"):
                raise CohortError(f"{folder}: no Patient resource in {len(self.files)} files; a cohort needs patients")
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> FhirFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    @property
    def not_fetched(self) -> frozenset[str]:
        return frozenset(_OF_A_PATIENT - set(self.found.types))

    def patients(self) -> Iterator[PatientData]:
        for shard in sorted(Path(self._folder.name).iterdir()):
            by_patient: dict[str, list[Resource]] = {}
            for line in shard.read_bytes().splitlines():
                subject, resource = orjson.loads(line)
                by_patient.setdefault(subject, []).append(resource)
            for subject in sorted(by_patient):
                resources = by_patient[subject]
                resources.sort(key=lambda r: r["resourceType"] != "Patient")
                if resources[0]["resourceType"] == "Patient":
                    yield PatientData(subject, (*resources, *self._pointed_at(resources)))

    def _deal(self, progress: Progress) -> Found:
        types: dict[str, int] = {}
        unowned = total = 0
        with ExitStack() as stack:
            shards = [stack.enter_context(open(Path(self._folder.name) / f"{n:02d}", "wb")) for n in range(_SHARDS)]
            for path in self.files:
                for subject, resource in _owned(path):
                    kind = resource["resourceType"]
                    types[kind] = types.get(kind, 0) + 1
                    total += 1
                    if subject is not None:
                        _write(shards, subject, resource)
                    elif kind in _SHARED and isinstance(resource.get("id"), str):
                        self._shared[f"{kind}/{resource['id']}"] = resource
                    elif kind in _OF_A_PATIENT:
                        unowned += 1
                    if total % _REPORT_EVERY == 0:
                        progress(f"{total:,} resources read")
        progress(f"{total:,} resources in {len(self.files)} files")
        return Found(dict(sorted(types.items())), unowned)

    def _pointed_at(self, resources: Iterable[Resource]) -> list[Resource]:
        """Shared resources these refer to, and what those refer to: a bed is in a ward."""
        wanted: dict[str, Resource] = {}
        waiting = list(resources)
        while waiting:
            resource = waiting.pop()
            for key in _pointers(resource) if resource["resourceType"] in _POINTING else ():
                if key in self._shared and key not in wanted:
                    wanted[key] = self._shared[key]
                    waiting.append(self._shared[key])
        return list(wanted.values())


def _files(folder: Path) -> tuple[Path, ...]:
    if folder.is_file() and folder.name.endswith(_SUFFIXES):
        return (folder,)
    if not folder.is_dir():
        raise CohortError(f"{folder}: no such folder; give the one with the NDJSON files or Bundles")
    found = tuple(p for p in sorted(folder.rglob("*")) if p.is_file() and p.name.endswith(_SUFFIXES))
    if not found:
        raise CohortError(f"{folder}: empty; expected {', '.join(_SUFFIXES)}")
    return found


def _write(shards: Sequence[IO[bytes]], subject: str, resource: Resource) -> None:
    shard = shards[zlib.crc32(subject.encode()) % _SHARDS]
    shard.write(orjson.dumps([subject, resource], option=orjson.OPT_APPEND_NEWLINE))


def _owned(path: Path) -> Iterator[tuple[str | None, Resource]]:
    """Every resource of a file with the id of its patient."""
    for entries in _batches(path):
        directory = Directory.of(entries)
        alone = {e.resource["id"] for e in entries if e.resource["resourceType"] == "Patient" and "id" in e.resource}
        for entry in entries:
            resource = _relative(entry.resource, directory) if directory.by_url else entry.resource
            yield _subject(resource, directory, alone), resource


def _batches(path: Path) -> Iterator[tuple[Entry, ...]]:
    """What a file says together: all of a Bundle (its references resolve within it), or one line of NDJSON."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            first = stream.readline()
            if _is_line(first):
                yield _parse(first, path, 1)
                for number, line in enumerate(stream, start=2):
                    if line.strip():
                        yield _parse(line, path, number)
            else:
                whole = first + stream.read()
                if whole.strip():
                    yield _parse(whole, path, None)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.__class__.__name__})") from None


def _is_line(line: bytes) -> bool:
    """Whether a first line is a whole resource by itself, as in NDJSON (and in a Bundle written on one line)."""
    try:
        return isinstance(orjson.loads(line.removeprefix(b"\xef\xbb\xbf")), dict)
    except orjson.JSONDecodeError:
        return False


def _parse(raw: bytes, path: Path, line: int | None) -> tuple[Entry, ...]:
    where = str(path) if line is None else f"{path}, line {line}"
    try:
        value = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise InvalidInputError(f"{where}: not valid JSON: {error.msg}") from None
    return tuple(entry for item in (value if isinstance(value, list) else [value]) for entry in _entries(item, where))


def _entries(value: Any, where: str) -> Iterator[Entry]:
    if isinstance(value, dict) and {"transactionTime", "output"} <= set(value):
        return  # the manifest of a Bulk Data export, often kept beside its files
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise InvalidInputError(f"{where}: not a FHIR resource (an object with resourceType)")
    if value["resourceType"] != "Bundle":
        yield Entry(value)
        return
    reading = read_bundle(value, name=where)
    if reading.incomplete:
        raise CohortError(f"{where}: this Bundle says itself that it is not everything; fetch all of its pages first")
    yield from reading.entries


def _subject(resource: Resource, directory: Directory, alone: set[str]) -> str | None:
    if resource["resourceType"] == "Patient":
        return resource["id"] if isinstance(resource.get("id"), str) else None
    if resource["resourceType"] not in _OF_A_PATIENT:
        return None
    key = directory.key(resource.get("subject") or resource.get("patient"))
    if key is not None and key.startswith("Patient/"):
        return key.removeprefix("Patient/")
    return next(iter(alone)) if len(alone) == 1 and key is None and _mentions_nobody(resource) else None


def _mentions_nobody(resource: Resource) -> bool:
    return not (resource.get("subject") or resource.get("patient"))


def _relative(resource: Resource, directory: Directory) -> Resource:
    """A copy whose references are `Type/id` where the Bundle's own fullUrls say so."""
    copy: Resource = orjson.loads(orjson.dumps(resource))
    for reference in _references(copy):
        key = directory.key(reference["reference"])
        if key is not None:
            reference["reference"] = key
    return copy


def _pointers(resource: Resource) -> Iterator[str]:
    """References, and the URLs of attachments, as `Type/id`."""
    yield from (reference["reference"] for reference in _references(resource))
    contents = resource.get("content")
    for content in contents if isinstance(contents, list) else ():
        attachment = content.get("attachment") if isinstance(content, dict) else None
        url = attachment.get("url") if isinstance(attachment, dict) else None
        if isinstance(url, str) and "Binary/" in url:
            yield "Binary/" + url.rpartition("Binary/")[2]


def _references(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("reference"), str):
                yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
