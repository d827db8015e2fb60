"""Reads the files of an export resource by resource, with the patient id: NDJSON line by line, Bundles as a whole.

References by `urn:uuid` or absolute URL are made relative if the input itself resolves them: a Bundle by its fullUrls,
a Bulk Data export by the `request` of its manifest, if it is in the same folder
(https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status).
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypedDict

import msgspec

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.parsing.references import Directory, base_of
from fhir_mapping.parsing.resource_reader import ParsedInput, ResourceEntry, check_utf8, read_bytes
from fhir_mapping.record.patient_compartment import CLINICAL, NOTE_TYPES

LINES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
BUNDLES = (".json", ".json.gz")
MAX_LINE = 64 * 2**20
PERSONAL = CLINICAL | NOTE_TYPES
# Without a subject: a record gets those its resources refer to (a drug, a bed and its ward, a note's bytes).
SHARED = frozenset({"Medication", "Location", "Binary"})
_PATIENT = re.compile(r"(?:Patient/)?([A-Za-z0-9\-._]{1,64})(?:/_history/[^/]+)?\Z")
_REFERENCE = re.compile(rb'"(?P<name>reference|url)"(?P<colon>\s*:\s*)"(?P<text>[^"\\]+)"')
_EXPORT = re.compile(r"(?P<base>https?://.+?)(?:/Patient|/Group/[^/]+)?/\$export(?:\?.*)?\Z", re.IGNORECASE)
_MANIFEST_HEAD = 4096  # so that a Bundle of many megabytes is not read to find that it is not a manifest

ReportFault = Callable[[str, InvalidInputError], None]
Key = Callable[[str], str | None]


class UnownedError(InvalidInputError):
    """A clinical resource without a subject in this export."""


class IncompleteError(InvalidInputError):
    """A Bundle that reports missing matches of `kinds`; `patient` is the only one in it, or None."""

    def __init__(self, kinds: frozenset[str], patient: str | None) -> None:
        super().__init__("the Bundle is incomplete, not everything was fetched; fetch all of its pages first")
        self.kinds, self.patient = kinds, patient


class ExportedResource(NamedTuple):
    """One resource as one line of JSON; `owner` is the patient id, or, if `shared`, its own id, else empty."""

    kind: str
    owner: bytes
    line: bytes
    shared: bool = False
    of_bundle: bool = False


class _Owner(TypedDict, total=False):
    resourceType: Any
    id: Any
    subject: Any
    patient: Any


class _Manifest(TypedDict):
    transactionTime: Any
    request: str
    output: list[Any]


_OWNER = msgspec.json.Decoder(_Owner)
_MANIFEST = msgspec.json.Decoder(_Manifest)


def files_in(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """Returns the files of a folder and its subfolders, or the file itself. Raises InvalidInputError without any."""
    found = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    files = tuple(path for path in found if path.name.endswith(suffixes))
    if not files:
        what = "no file in this folder ends" if folder.is_dir() else "neither a folder nor a file that ends"
        raise InvalidInputError(f"{folder}: {what} in {', '.join(suffixes)}")
    return files


def resources_of(path: Path, name: str, server: str | None, fault: ReportFault) -> Iterator[ExportedResource]:
    """Yields the resources of a file exported by `server`. Calls `fault(place, error)` for the unusable ones."""
    if path.name.endswith(BUNDLES):
        try:
            with opened(path) as stream:
                whole = stream.read()
            yield from () if _manifest(whole) else _bundle_resources(read_bytes(whole), name, fault)
        except InvalidInputError as error:
            fault(name, error)
        except (OSError, EOFError, zlib.error) as error:
            fault(name, InvalidInputError(f"cannot be read: {error}"))
        return
    key = _key_on(server)
    for number, line in lines_of(path, name, lambda place, why: fault(place, InvalidInputError(why))):
        place = f"{name}:{number}"
        try:
            local = line if server is None else relative(line, key)
            exported = _exported(local)
            if exported.kind == "Bundle":
                yield from _bundle_resources(read_bytes(local), place, fault)
            else:
                yield exported
        except InvalidInputError as error:
            fault(place, error)


def lines_of(path: Path, name: str, fault: Callable[[str, str], None]) -> Iterator[tuple[int, bytes]]:
    """Yields the numbered lines of a file, plain or .gz. Calls `fault(place, reason)` if reading stops early."""
    number = 0
    try:
        with opened(path) as stream:
            while line := stream.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise OSError(f"a line longer than {MAX_LINE // 2**20} MiB")
                line = line.strip().removeprefix(b"\xef\xbb\xbf")
                if line:
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        fault(f"{name}:{number + 1}", f"cannot be read any further: {error}")


def opened(path: Path) -> IO[bytes]:
    """Returns the file opened for reading bytes, decompressed if it is .gz."""
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def export_server(files: Iterable[Path]) -> str | None:
    """Returns the server of an export, as `references.base_of` does, from a manifest among these files, or None."""
    for path in files:
        try:
            with opened(path) as stream:
                head = stream.read(_MANIFEST_HEAD)
                whole = head + stream.read() if b'"transactionTime"' in head else b""
            found = _EXPORT.match(_MANIFEST.decode(whole)["request"])
        except (msgspec.DecodeError, OSError, EOFError, zlib.error):
            continue
        if found is not None:
            return base_of(f"{found['base']}/Patient/any")
    return None


def relative(line: bytes, key: Key) -> bytes:
    """Returns the line with references, and URLs of Binaries, replaced by the `Type/id` that `key` returns for them."""

    def replaced(found: re.Match[bytes]) -> bytes:
        meant = key(found["text"].decode("utf-8", "replace"))
        if meant is None or (found["name"] == b"url" and not meant.startswith("Binary/")):
            return found[0]
        return b'"%b"%b"%b"' % (found["name"], found["colon"], meant.encode())

    return _REFERENCE.sub(replaced, line)


def _key_on(server: str | None) -> Key:
    """Returns a function from an absolute URL on `server` to `Type/id`, or None for other URLs."""

    def key(text: str) -> str | None:
        if server is None or base_of(text) != server:
            return None
        return "/".join(text.partition("/_history/")[0].rsplit("/", 2)[1:])

    return key


def _exported(line: bytes) -> ExportedResource:
    """Returns the resource on a line. Raises InvalidInputError if it is none, UnownedError without a known patient."""
    check_utf8(line)
    try:
        head = _OWNER.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInputError(f"not a FHIR resource: {error}") from None
    kind, identifier = head.get("resourceType"), head.get("id")
    if not isinstance(kind, str):
        raise InvalidInputError("not a FHIR resource: no resourceType")
    if kind == "Patient":
        return ExportedResource(kind, _patient_id(identifier), line)
    if kind in SHARED:
        return ExportedResource(kind, identifier.encode() if isinstance(identifier, str) else b"", line, shared=True)
    if kind not in PERSONAL:
        return ExportedResource(kind, b"", line)
    subject = head.get("subject") or head.get("patient")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str) or not reference.startswith("Patient/"):
        raise UnownedError(f"{kind}: the subject is not a Patient of this export")
    return ExportedResource(kind, _patient_id(reference), line)


def _patient_id(text: Any) -> bytes:
    found = _PATIENT.match(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidInputError("the Patient has no usable id")
    return found[1].encode()


def _bundle_resources(reading: ParsedInput, place: str, fault: ReportFault) -> Iterator[ExportedResource]:
    """Yields the resources of a Bundle with resolved references; without a subject they belong to its only patient."""
    directory = Directory.of(reading.entries)
    patients = {entry.source(n).partition("/")[2] for n, entry in enumerate(reading.entries) if entry.kind == "Patient"}
    only = next(iter(patients)) if len(patients) == 1 else None
    if reading.incomplete:
        fault(place, IncompleteError(reading.incomplete, only))
    for position, entry in enumerate(reading.entries):
        try:
            yield _entry(entry, entry.source(position), directory, only)._replace(of_bundle=True)
        except InvalidInputError as error:
            fault(f"{place}: {entry.source(position)}", error)


def _entry(entry: ResourceEntry, source: str, directory: Directory, only: str | None) -> ExportedResource:
    """Returns one resource of a Bundle under the id by which the others refer to it, often that of its fullUrl.

    Shared resources in a Bundle of one patient belong to that patient: another Bundle may hold a different ward under
    the same id.
    """
    if entry.kind not in PERSONAL | SHARED | {"Patient"}:
        return ExportedResource(entry.kind, b"", b"")
    resource, identifier = entry.resource, source.partition("/")[2]
    if not identifier.startswith("#") and resource.get("id") != identifier:
        resource = {**resource, "id": identifier}
    line = msgspec.json.encode(resource)
    if directory.by_url:
        line = relative(line, directory.key)
    unowned = entry.kind in SHARED or not (resource.get("subject") or resource.get("patient"))
    if only is not None and entry.kind != "Patient" and unowned:
        return ExportedResource(entry.kind, _patient_id(only), line)
    return _exported(line)


def _manifest(whole: bytes) -> bool:
    """Whether these bytes are the manifest of a Bulk Data export, often kept in the same folder."""
    try:
        head = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return {"transactionTime", "output"} <= head.keys() and "resourceType" not in head
