"""Builds a cohort folder: reads patients one at a time, labels, excludes with reasons, splits and writes.

The follow-up rule decides which negatives are accepted. `data`: followed until the last dated event of the whole source
(right for real dates); `patient`: until the patient's own last event (for dates shifted per patient, as in MIMIC;
strict); `none`: followed for ever; or until a given date.
"""

from __future__ import annotations

import gc
import gzip
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import msgspec
import orjson

from artifact_store import Parts, Workers, atomic_folder, sha256_of
from fhir_mapping import FhirMappingError, SiteMap
from risk_model.cohorts.fhir_source import PatientData, Progress
from risk_model.cohorts.labelled_cohort import (
    FORMAT,
    LABELS,
    MANIFEST,
    PATIENTS,
    SITE_MAP,
    TASK,
    CohortRow,
    LabelledCohort,
    counts,
)
from risk_model.cohorts.patient_identity import People, marks_of
from risk_model.cohorts.splits import SPLITS, ByHash, SplitPlan, assign, folds
from risk_model.core.errors import CohortError
from risk_model.labels.given_labels import GivenLabels
from risk_model.labels.labelling import Excluded, Labelled, label
from risk_model.labels.task_definitions import TaskDefinition, parse_task
from risk_model.labels.timeline import PatientTimeline

_REPORT_EVERY = 500
_RARE = (200_000, 50, 100)
"""Thresholds of Python's garbage collector: new containers before the youngest are looked through, and generations."""
_NO_REAL_YEAR, _NO_REAL_SPAN = 2100, 80
"""Years of last entries that no real data have."""


class PatientPart(Protocol):
    """Some of the patients of a source; `unread` and `met` fill as they are read (`PatientSource.count`)."""

    @property
    def unread(self) -> Mapping[str, int]: ...

    @property
    def met(self) -> Collection[str]: ...

    def patients(self) -> Iterator[PatientData]: ...


class PatientSource(Protocol):
    """A source of patients: `FhirFolder` or `MedsDataset`."""

    @property
    def not_fetched(self) -> frozenset[str]: ...

    @property
    def left_out(self) -> Mapping[str, int]:
        """Rows or resources of the source that were not used, by reason; complete once all patients were read."""
        ...

    def patients(self) -> Iterator[PatientData]: ...

    def parts(self) -> Sequence[PatientPart]:
        """The patients in parts, which can be sent to other processes."""
        ...

    def keys(self, parts: Any) -> list[str]:
        """For each part the hash of its content."""
        ...

    def count(self, unread: Mapping[str, int], met: Collection[str]) -> None:
        """Adds what was left out of a part, once its patients were read."""
        ...


@dataclass(frozen=True, slots=True)
class CohortOptions:
    """Options of a build. `folds` None gives as many as possible, up to five; `site_map` is a file of local codes."""

    plan: SplitPlan = field(default_factory=ByHash)
    folds: int | None = None
    follow_up: str | datetime = "data"
    zone: tzinfo = UTC
    described_source: str = ""
    site_map: Path | None = None
    labels: GivenLabels | None = None
    """Labels made elsewhere, instead of those of the definition."""
    workers: Workers = field(default_factory=Workers)
    """Workers that label; the cohort is the same with any number."""
    work: Path | None = None
    """Folder where finished parts are kept, so that an interrupted build resumes."""


@dataclass
class _Gathered:
    """What the patients of a part, or of all parts, give beside their data."""

    rows: list[Labelled] = field(default_factory=list)
    excluded: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    last: dict[str, datetime] = field(default_factory=dict)
    given_split: dict[str, str] = field(default_factory=dict)
    marks: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    patients: int = 0
    doubtful_stays: int = 0
    without_prediction: int = 0
    """Patients without a stay or event that triggers a prediction."""

    def add(self, other: _Gathered) -> None:
        """Appends the patients of another part."""
        self.rows += other.rows
        self.marks += other.marks
        for name in ("excluded", "classes", "unreadable"):
            getattr(self, name).update(getattr(other, name))
        self.last |= other.last
        self.given_split |= other.given_split
        self.patients += other.patients
        self.doubtful_stays += other.doubtful_stays
        self.without_prediction += other.without_prediction


def build_cohort(
    task: TaskDefinition, source: PatientSource, out: Path, options: CohortOptions, progress: Progress = lambda _: None
) -> LabelledCohort:
    """Builds the cohort in `out`, which must be empty or absent.

    Raises CohortError if the cohort is unusable for training: no stays, no rows, no positive, no negative, or a fold
    with one class only.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CohortError(f"{out}: not an empty folder; give a new one")
    with atomic_folder(out, last=MANIFEST) as coming:  # no partial cohort stays behind: it is patient data
        _build(task, source, coming, options, progress)
    return LabelledCohort.open(out)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labelled rows of one task, without the data. `excluded` counts reasons."""

    rows: tuple[CohortRow, ...]
    excluded: Mapping[str, int]


def label_all(
    tasks: Sequence[TaskDefinition], source: PatientSource, options: CohortOptions, progress: Progress = lambda _: None
) -> dict[str, Labels]:
    """Returns the rows of many tasks in one pass over the patients; a task may have none."""
    gathered, site_map = {task.id: _Gathered() for task in tasks}, _site_map(options)
    for number, patient in enumerate(source.patients(), 1):
        for task in tasks:
            _gather(task, patient, options, site_map, gathered[task.id])
        if number % _REPORT_EVERY == 0:
            progress(f"{number:,} patients labelled")
    found = {}
    for task in tasks:
        one = gathered[task.id]
        rows, _ = _rows(one, options, _believable(task, one, options))
        found[task.id] = Labels(rows, dict(one.excluded.most_common()))
    return found


def _build(task: TaskDefinition, source: PatientSource, out: Path, options: CohortOptions, progress: Progress) -> None:
    gathered, site_map = _Gathered(), _site_map(options)
    parts = source.parts()
    kept = Parts(options.work, _settings(task, options, site_map))
    job = partial(_gather_part, task.text, options)
    with (out / PATIENTS).open("wb") as stream:
        for answer in kept.results(job, parts, source.keys(parts), options.workers):
            found, lines = _opened(answer)
            source.count(found.unread, found.met)
            gathered.add(found.gathered)
            stream.write(lines)
            if options.labels is not None:
                options.labels.met.update(subject for subject, _ in found.gathered.marks)
            progress(f"{gathered.patients:,} patients, {len(gathered.rows):,} rows")
    progress(f"{gathered.patients:,} patients, {len(gathered.rows):,} rows")
    rows, number_of_folds = _rows(gathered, options, short := _believable(task, gathered, options))
    _check(task, rows, gathered)
    (out / LABELS).write_bytes(b"".join(orjson.dumps(r.to_json(), option=orjson.OPT_APPEND_NEWLINE) for r in rows))
    (out / TASK).write_text(task.text, "utf-8")
    names = [LABELS, PATIENTS, TASK]
    if options.site_map is not None:
        (out / SITE_MAP).write_bytes(options.site_map.read_bytes())
        names.append(SITE_MAP)
    manifest = {
        "format": FORMAT,
        "task": task.id,
        "definition": task.definition,
        "title": task.title,
        "timeline": task.timeline,
        "source": options.described_source,
        "patients_read": gathered.patients,
        **counts(rows),
        "persons": len({row.person for row in rows}),
        "excluded": dict(gathered.excluded.most_common()),
        "patients_without_a_prediction": gathered.without_prediction,
        "unreadable_patients": dict(gathered.unreadable.most_common()),
        "left_out": dict(source.left_out) | ({} if options.labels is None else dict(options.labels.unused())),
        "labels": None if options.labels is None else _labels_to_json(options.labels),
        "negatives_with_short_follow_up": short.kept,
        "encounter_classes": dict(gathered.classes.most_common()),
        "splits": _plan_to_json(options, gathered),
        "folds": number_of_folds,
        "follow_up": options.follow_up if isinstance(options.follow_up, str) else options.follow_up.isoformat(),
        "zone": str(options.zone),
        "not_fetched": sorted(source.not_fetched),
        "warnings": [*_warnings(rows, number_of_folds, gathered.doubtful_stays), *_shifted(task, gathered, options)],
        "site_maps": [] if site_map is None else list(site_map.names),
        "sha256": {name: sha256_of(out / name) for name in names},
    }
    (out / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def _labels_to_json(given: GivenLabels) -> dict[str, object]:
    digest = {} if given.file.is_dir() else {"sha256": sha256_of(given.file)}
    return {"file": given.file.name, "labels": sum(map(len, given.by_subject.values())), **digest}


@dataclass(frozen=True, slots=True)
class _PartAnswer:
    """The labels of a part, and what was left out of it (`PatientSource.count`)."""

    gathered: _Gathered
    unread: dict[str, int]
    met: list[str]


def _gather_part(task_file: str, options: CohortOptions, part: PatientPart) -> bytes:
    """Labels the patients of a part; returns the counts as a line of JSON, and the labelled patients as gzipped
    lines."""
    task = parse_task(task_file, TASK)  # a definition itself cannot be sent to another process
    gathered, site_map, lines = _Gathered(), _site_map(options), BytesIO()
    with _few_collections(), gzip.GzipFile(fileobj=lines, mode="wb", compresslevel=4, mtime=0) as stream:
        for patient in part.patients():
            if _gather(task, patient, options, site_map, gathered):
                line = {"subject_id": patient.subject_id, "resources": patient.resources}
                stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    counts_of_part = msgspec.json.encode(_PartAnswer(gathered, dict(part.unread), sorted(part.met)))
    return counts_of_part + b"\n" + lines.getvalue()


def _opened(answer: bytes) -> tuple[_PartAnswer, bytes]:
    found, _, lines = answer.partition(b"\n")
    return msgspec.json.decode(found, type=_PartAnswer, dec_hook=lambda kind, value: kind(value)), lines


def _settings(task: TaskDefinition, options: CohortOptions, site_map: SiteMap | None) -> dict[str, Any]:
    """Returns all that the labels of a part depend on beside its data."""
    return {
        "task": task.text,
        "labels": None if options.labels is None else options.labels.fingerprint,
        "follow_up": str(options.follow_up),
        "zone": str(options.zone),
        "site_map": None if site_map is None else site_map.fingerprint,
    }


@contextmanager
def _few_collections() -> Iterator[None]:
    """Makes the collection of reference cycles rare while a part is labelled.

    A part makes millions of dictionaries that stay until their patient is done and hardly any cycle; looking through
    them again and again took a quarter of the time.
    """
    usual = gc.get_threshold()
    gc.set_threshold(*_RARE)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def _site_map(options: CohortOptions) -> SiteMap | None:
    """Raises DefinitionError with the file and the field."""
    return None if options.site_map is None else SiteMap.open(options.site_map)


def _gather(
    task: TaskDefinition, patient: PatientData, options: CohortOptions, site_map: SiteMap | None, into: _Gathered
) -> bool:
    """Labels one patient; returns whether there is a row. Patients with unusable data are counted with the reason."""
    into.patients += 1
    try:
        timeline = PatientTimeline.of(patient.resources, patient.subject_id, site_map, well_formed=patient.well_formed)
    except FhirMappingError as error:
        into.unreadable[type(error).__name__] += 1
        return False
    into.marks.append((patient.subject_id, marks_of(patient.resources)))
    into.doubtful_stays += timeline.within_other_encounters()
    into.classes.update(stay.stay_class.value for stay in timeline.stays)
    last = timeline.last if options.follow_up in {"data", "patient"} else None
    if last is not None:
        into.last[patient.subject_id] = last
    if patient.split is not None:
        into.given_split[patient.subject_id] = patient.split
    given = options.labels
    before = len(into.rows)
    answers = list(label(task, timeline, options.zone) if given is None else given.of(timeline))
    into.without_prediction += not answers
    for answer in answers:
        if isinstance(answer, Excluded):
            into.excluded[answer.reason] += 1
        else:
            into.rows.append(answer)
    return len(into.rows) > before


@dataclass(frozen=True, slots=True)
class _Believable:
    rows: list[Labelled]
    kept: int


def _believable(task: TaskDefinition, gathered: _Gathered, options: CohortOptions) -> _Believable:
    """Returns the rows with known labels, and the number of negatives kept though follow-up ends before their
    window."""
    end_of_data = max(gathered.last.values(), default=None)
    rows, kept = [], 0
    for row in gathered.rows:
        if isinstance(options.follow_up, datetime):
            seen_until: datetime | None = options.follow_up
        else:
            seen_until = end_of_data if options.follow_up == "data" else gathered.last.get(row.subject_id)
        forever = options.follow_up == "none" or row.needs_until is None or seen_until is None
        short = not forever and row.needs_until is not None and seen_until is not None and row.needs_until > seen_until
        if short and not task.keep_censored:
            gathered.excluded["follow-up ends before the window"] += 1
            continue
        kept += short
        rows.append(row)
    return _Believable(rows, kept)


def _rows(gathered: _Gathered, options: CohortOptions, believable: _Believable) -> tuple[tuple[CohortRow, ...], int]:
    ordered = sorted(believable.rows, key=lambda r: (r.subject_id, r.prediction_time, r.encounter_id or ""))
    people = People()
    for subject, marks in gathered.marks:
        people.add(subject, marks)
    persons = {row.subject_id: people.person(row.subject_id) for row in ordered}
    places = _given(ordered, persons, gathered.given_split) or assign(ordered, persons, options.plan)
    for place in places:
        gathered.excluded["outside its split's period"] += place is None
    inside = [(row, place) for row, place in zip(ordered, places, strict=True) if place is not None]
    fold, number = folds([row for row, _ in inside], persons, options.folds) if inside else ([], 0)
    made = tuple(
        CohortRow(r.subject_id, r.encounter_id, r.prediction_time, r.label, r.level, place, f, persons[r.subject_id])
        for (r, place), f in zip(inside, fold, strict=True)
    )
    gathered.excluded += Counter()  # drops the zeros
    return made, number


def _given(rows: Iterable[Labelled], persons: dict[str, str], given: dict[str, str]) -> list[str | None]:
    """Returns the source's own splits, by person: if two charts of one person disagree, the stricter split wins."""
    by_person: dict[str, str] = {}
    for subject, split in given.items():
        person = persons.get(subject)
        if person is not None:
            by_person[person] = max(by_person.get(person, "train"), split, key=SPLITS.index)
    return [by_person.get(persons[row.subject_id], "train") for row in rows] if by_person else []


def _plan_to_json(options: CohortOptions, gathered: _Gathered) -> dict[str, object]:
    return {"kind": "given by the source"} if gathered.given_split else options.plan.to_json()


def _check(task: TaskDefinition, rows: tuple[CohortRow, ...], gathered: _Gathered) -> None:
    why = ", ".join(f"{reason} ({number})" for reason, number in gathered.excluded.most_common())
    why += ", ".join(f"unreadable: {name} ({n})" for name, n in gathered.unreadable.most_common())
    if not rows:
        seen = ", ".join(f"{name} ({number})" for name, number in gathered.classes.most_common()) or "none"
        raise CohortError(
            f"no row for {task.id} ({task.definition}) in {gathered.patients} patients; encounters by class: {seen}; "
            f"excluded: {why or 'nothing'}"
        )
    positives = sum(row.label for row in rows)
    if positives in {0, len(rows)}:
        missing = "positive" if positives == 0 else "negative"
        raise CohortError(
            f"no {missing} outcome among {len(rows)} rows for {task.id} ({task.definition}): nothing can be learned or "
            f"measured; excluded: {why or 'nothing'}"
        )


def _shifted(task: TaskDefinition, gathered: _Gathered, options: CohortOptions) -> list[str]:
    """Returns a warning where follow-up by the whole data is asked for and each patient has a calendar of its own."""
    if options.follow_up != "data" or task.to is None or options.labels is not None or not gathered.last:
        return []
    first, last = min(gathered.last.values()).year, max(gathered.last.values()).year
    if last < _NO_REAL_YEAR and last - first < _NO_REAL_SPAN:
        return []
    return [
        f"the patients' last entries are from {first} to {last}: dates shifted per patient, as in MIMIC. Follow-up to "
        f"the end of the data means nothing then, and every negative seems followed; choose --follow-up patient "
        f"(strict) or none"
    ]


def _warnings(rows: tuple[CohortRow, ...], number_of_folds: int, doubtful_stays: int) -> list[str]:
    found = []
    for name in SPLITS:
        classes = {row.label for row in rows if row.split == name}
        if len(classes) < 2:
            found.append(f"{name}: {'empty' if not classes else 'one class only'}")
    if doubtful_stays:
        found.append(
            f"{doubtful_stays} inpatient stays are part of an encounter of another class: the classes do not say what "
            f"a hospital stay is, and moves within one may count as readmissions; map the classes first"
        )
    if number_of_folds == 0:
        found.append("no folds: fewer than two patients with, or without, the outcome")
    return found
