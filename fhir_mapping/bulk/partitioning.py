"""Pass one over a Bulk Data export: every line is written to the bucket of its patient.

The state is saved after each input file, so that an interrupted run resumes.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from fhir_mapping.bulk.export_files import LINES, PERSONAL, UnownedError, export_server, files_in, resources_of
from fhir_mapping.bulk.partition_files import SHARED_FILE, PartitionState, SharedResources, bucket_name
from fhir_mapping.bulk.population import PatientPartitions
from fhir_mapping.core.errors import InvalidInputError

_BUCKET_BYTES = 4 * 2**20  # features need about thirty times as many bytes
_MAX_BUCKETS = 16_384  # of an export of a terabyte a bucket has 64 MB then
_HELD_BYTES = 64 * 2**20  # lines in memory before they are written: as many open files as buckets are not allowed
_GZIP_RATIO = 12

Progress = Callable[[str], None]


def partition_by_patient(
    folder: Path,
    work: Path,
    progress: Progress | None = None,
    *,
    suffixes: tuple[str, ...] = LINES,
    fewest: int = 4,
    strict: bool = False,
) -> PatientPartitions:
    """Returns the resources of `folder`, partitioned by patient in `work`; an interrupted run on the same input
    resumes.

    Raises InvalidInputError if the folder has no file with one of the suffixes, or no Patient; with `strict` also for
    the first line that cannot be read, naming its place. Resources without a patient are counted in any case. There
    are at least `fewest` buckets; patients come in the order of the buckets.
    """
    files = files_in(folder, suffixes)
    root = folder if folder.is_dir() else folder.parent
    work.mkdir(parents=True, exist_ok=True)
    state = _resume_or_start(work, files, root, fewest)

    def report(place: str, error: InvalidInputError) -> None:
        state.fault(place, error)
        if strict and not isinstance(error, UnownedError):
            raise InvalidInputError(f"{root / place}: {error}")

    for path in files:
        name = str(path.relative_to(root))
        if name in state.done:
            continue
        _partition_file(path, name, work, state, report)
        state.done.append(name)
        state.save(work)
        if progress is not None:
            progress(f"{len(state.done)} of {len(files)} files partitioned")
    if not state.patients:
        raise InvalidInputError(f"{folder}: no Patient in {len(files)} files")
    return PatientPartitions(work)


def _resume_or_start(work: Path, files: Sequence[Path], root: Path, fewest: int) -> PartitionState:
    """Returns the state of an earlier run on the same files, with partly written lines removed, else a new one."""
    listed = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    state = PartitionState.load(work)
    if state is None or state.inputs != listed:
        size = sum(n * (_GZIP_RATIO if name.endswith(".gz") else 1) for name, n, _ in listed)
        server = export_server(path for path in root.glob("*.json") if path.is_file())
        state = PartitionState(listed, min(max(size // _BUCKET_BYTES, fewest), _MAX_BUCKETS), server)
        (work / SHARED_FILE).unlink(missing_ok=True)
    for path in work.glob("*.ndjson"):
        with path.open("r+b") as stream:
            stream.truncate(state.ends.get(path.name, 0))
    for number in range(state.buckets):
        (work / bucket_name(number)).touch()
    return state


def _partition_file(
    path: Path, name: str, work: Path, state: PartitionState, fault: Callable[[str, InvalidInputError], None]
) -> None:
    kinds = set(state.kinds)
    held: defaultdict[int, list[bytes]] = defaultdict(list)
    size = 0
    with SharedResources.writing(work / SHARED_FILE) as shared:
        for kind, owner, line, common, of_bundle in resources_of(path, name, state.server, fault):
            kinds.add(kind)
            state.exported = state.exported or (kind in PERSONAL and not of_bundle)
            state.resources += 1
            state.patients += kind == "Patient"
            if common:
                shared.put(f"{kind}/{owner.decode()}", line)
            elif owner:
                held[zlib.crc32(owner) % state.buckets].append(b"%b\t%b\n" % (owner, line))
                size += len(line)
            if size >= _HELD_BYTES:
                _append(held, work)
                size = 0
    _append(held, work)
    state.kinds = sorted(kinds)


def _append(held: dict[int, list[bytes]], work: Path) -> None:
    """Appends lines to the files of their buckets, and empties `held`."""
    for number, lines in held.items():
        with (work / bucket_name(number)).open("ab") as bucket:
            bucket.writelines(lines)
    held.clear()
