"""The files of an export, resource by resource, each with its patient: NDJSON line by line, a Bundle whole.

References by `urn:uuid` or absolute URL are made relative where the input itself says what they mean: a Bundle by its
fullUrls, a Bulk Data export by the `request` of its manifest, where that lies beside its files
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
# They name nobody: a patient comes with those its resources point at (a drug, a bed and its ward, a note's bytes).
SHARED = frozenset({"Medication", "Location", "Binary"})
_PATIENT = re.compile(r"(?:Patient/)?([A-Za-z0-9\-._]{1,64})(?:/_history/[^/]+)?\Z")
_POINTING = re.compile(rb'"(?P<name>reference|url)"(?P<colon>\s*:\s*)"(?P<text>[^"\\]+)"')
_EXPORT = re.compile(r"(?P<base>https?://.+?)(?:/Patient|/Group/[^/]+)?/\$export(?:\?.*)?\Z", re.IGNORECASE)
_MANIFEST_HEAD = 4096  # a Bundle of many megabytes is not read to find that it is none

Complain = Callable[[str, InvalidInputError], None]
Key = Callable[[str], str | None]


class UnownedError(InvalidInputError):
    """A clinical resource of which nothing proves whose it is."""


class ExportedResource(NamedTuple):
    """One resource as JSON on one line; `owner` is the patient's id, of what is shared its own, else nothing."""

    kind: str
    owner: bytes
    line: bytes


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
    """The files of a folder and its subfolders, or the file itself. Raises InvalidInputError where there are none."""
    found = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    files = tuple(path for path in found if path.name.endswith(suffixes))
    if not files:
        what = "no file in this folder ends" if folder.is_dir() else "neither a folder nor a file that ends"
        raise InvalidInputError(f"{folder}: {what} in {', '.join(suffixes)}")
    return files


def resources_of(path: Path, name: str, home: str | None, fault: Complain) -> Iterator[ExportedResource]:
    """What a file of the server `home` holds. `fault(place, why)` hears of what cannot be used, and may raise."""
    if path.name.endswith(BUNDLES):
        try:
            with opened(path) as stream:
                whole = stream.read()
            yield from () if _manifest(whole) else _together(read_bytes(whole), name, fault)
        except InvalidInputError as error:
            fault(name, error)
        except (OSError, EOFError, zlib.error) as error:
            fault(name, InvalidInputError(f"cannot be read: {error}"))
        return
    key = _at(home)
    for number, line in lines_of(path, name, lambda place, why: fault(place, InvalidInputError(why))):
        place = f"{name}:{number}"
        try:
            told = _told(line if home is None else relative(line, key))
            if told.kind == "Bundle":
                yield from _together(read_bytes(line), place, fault)
            else:
                yield told
        except InvalidInputError as error:
            fault(place, error)


def lines_of(path: Path, name: str, fault: Callable[[str, str], None]) -> Iterator[tuple[int, bytes]]:
    """The numbered lines of a file, plain or .gz; `fault(place, reason)` hears where it cannot be read any further."""
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
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def home_of(files: Iterable[Path]) -> str | None:
    """The server of an export, as `references.base_of` writes it, where a manifest among these files tells it."""
    for path in files:
        try:
            with opened(path) as stream:
                begun = stream.read(_MANIFEST_HEAD)
                whole = begun + stream.read() if b'"transactionTime"' in begun else b""
            found = _EXPORT.match(_MANIFEST.decode(whole)["request"])
        except (msgspec.DecodeError, OSError, EOFError, zlib.error):
            continue
        if found is not None:
            return base_of(f"{found['base']}/Patient/any")
    return None


def relative(line: bytes, key: Key) -> bytes:
    """With references, and the URLs of Binaries, as `Type/id` where `key` tells it of their text."""

    def change(found: re.Match[bytes]) -> bytes:
        meant = key(found["text"].decode("utf-8", "replace"))
        if meant is None or (found["name"] == b"url" and not meant.startswith("Binary/")):
            return found[0]
        return b'"%b"%b"%b"' % (found["name"], found["colon"], meant.encode())

    return _POINTING.sub(change, line)


def _at(home: str | None) -> Key:
    """Of an absolute URL on `home` what follows it."""

    def key(text: str) -> str | None:
        if home is None or base_of(text) != home:
            return None
        return "/".join(text.partition("/_history/")[0].rsplit("/", 2)[1:])

    return key


def _told(line: bytes) -> ExportedResource:
    """Raises InvalidInputError for a line that is no resource, UnownedError where its patient cannot be told."""
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
        return ExportedResource(kind, identifier.encode() if isinstance(identifier, str) else b"", line)
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
        raise InvalidInputError("a Patient without a usable id")
    return found[1].encode()


def _together(reading: ParsedInput, place: str, fault: Complain) -> Iterator[ExportedResource]:
    """What a Bundle says: its references resolve within it, and what names nobody is of its only patient."""
    if reading.incomplete:
        raise InvalidInputError("this Bundle says itself that it is not everything; fetch all of its pages first")
    directory = Directory.of(reading.entries)
    patients = [entry.resource.get("id") for entry in reading.entries if entry.kind == "Patient"]
    for position, entry in enumerate(reading.entries):
        try:
            yield _entry(entry, directory, patients)
        except InvalidInputError as error:
            fault(f"{place}: {entry.source(position)}", error)


def _entry(entry: ResourceEntry, directory: Directory, patients: list[Any]) -> ExportedResource:
    if entry.kind not in PERSONAL | SHARED | {"Patient"}:
        return ExportedResource(entry.kind, b"", b"")
    resource = entry.resource
    line = msgspec.json.encode(resource)
    if directory.by_url:
        line = relative(line, directory.key)
    if entry.kind in PERSONAL and len(patients) == 1 and not (resource.get("subject") or resource.get("patient")):
        return ExportedResource(entry.kind, _patient_id(patients[0]), line)
    return _told(line)


def _manifest(whole: bytes) -> bool:
    """Whether these bytes are the manifest of a Bulk Data export, often kept beside its files."""
    try:
        head = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return False
    return {"transactionTime", "output"} <= head.keys() and "resourceType" not in head
