"""PatientRecord: one patient as known at `prediction_time`. The cut is made once, here; nothing later is reachable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fhir_mapping import clinical, features, notes, serialise, stays
from fhir_mapping.attachments import FetchAttachment
from fhir_mapping.errors import ForeignPatientError, InvalidInputError, PatientNotFoundError
from fhir_mapping.measurements import concerns, consciousness, measure
from fhir_mapping.reading import Entry, Reading, Resource, read_bundle, read_bytes, source_of
from fhir_mapping.references import Directory, Ownership
from fhir_mapping.times import moment, parse_instant, reachable
from fhir_mapping.values import (
    Availability,
    Condition,
    FeatureVector,
    Instant,
    Measurement,
    Medication,
    Note,
    Procedure,
    Refusal,
    Stay,
    StayClass,
)

NOTE_TYPES = frozenset({"DocumentReference", "Composition", "DiagnosticReport"})
# Resource types that say something about one patient: each must prove whose it is. `patient` names the subject of some.
CLINICAL = frozenset({"Observation", "Condition", "Encounter", "MedicationRequest", "MedicationStatement", "Procedure"})
_PERSONAL = CLINICAL | NOTE_TYPES
# Elements that say when something was true, done, or written down.
_MOMENTS = frozenset(
    {"effectiveDateTime", "effectiveInstant", "issued", "authoredOn", "recordedDate", "date", "performedDateTime",
     "onsetDateTime", "occurrenceDateTime"}
)  # fmt: skip
_PERIODS = frozenset({"effectivePeriod", "period", "actualPeriod", "performedPeriod"})
_SEXES = frozenset({"female", "male", "other"})

Mine = tuple[str, Entry]  # a resource proven to be the patient's, by its source


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """One patient as known at `prediction_time`.

    >>> record = PatientRecord.from_json(b'[{"resourceType": "Patient", "id": "p", "birthDate": "1950-01-02"}]',
    ...                                  prediction_time="2024-05-01T00:00:00Z")
    >>> record.features().number("age.last"), record.current_stay
    (74.0, None)

    `PatientRecord.from_json(raw)` takes a Bundle, a list, one resource, or NDJSON; `from_resources` dictionaries;
    `from_prefetch` the prefetch of a CDS Hooks request. All raise InvalidInputError, PatientNotFoundError, or, when a
    clinical resource belongs to somebody else, ForeignPatientError.
    """

    subject_id: str
    prediction_time: datetime
    birth: Instant | None
    sex: str | None
    deceased: datetime | None
    current_stay: Stay | None
    stays: tuple[Stay, ...]
    conditions: tuple[Condition, ...]
    medications: tuple[Medication, ...]
    procedures: tuple[Procedure, ...]
    measurements: tuple[Measurement, ...]
    consciousness: tuple[str, datetime, str] | None
    refused: tuple[Refusal, ...]
    not_fetched: frozenset[str]
    _notes: tuple[Note, ...] = field(repr=False)
    _present: frozenset[str] = field(repr=False)

    @classmethod
    def from_json(
        cls,
        raw: bytes | str,
        patient_id: str | None = None,
        prediction_time: datetime | str | None = None,
        *,
        encounter_id: str | None = None,
        fetch_attachment: FetchAttachment | None = None,
    ) -> PatientRecord:
        """From the bytes of a Bundle, a resource, a list of resources, or NDJSON.

        `prediction_time=None` means the latest clinical time in the data. NDJSON may hold many patients: then
        `patient_id` chooses one and the others' resources are left alone; in a Bundle they stop everything.
        `fetch_attachment(url)` may bring notes that lie outside the data, as bytes or as a Binary resource.
        """
        time = _as_time(prediction_time)
        return _build(cls, read_bytes(raw), patient_id, time, encounter_id, frozenset(), fetch_attachment)

    @classmethod
    def from_resources(
        cls,
        resources: Iterable[Resource],
        patient_id: str | None = None,
        prediction_time: datetime | str | None = None,
        *,
        encounter_id: str | None = None,
        not_fetched: frozenset[str] = frozenset(),
        fetch_attachment: FetchAttachment | None = None,
    ) -> PatientRecord:
        """From parsed resources. `not_fetched` names resource types nobody asked for."""
        reading = Reading(tuple(Entry(resource) for resource in resources))
        time = _as_time(prediction_time)
        return _build(cls, reading, patient_id, time, encounter_id, not_fetched, fetch_attachment)

    @classmethod
    def from_prefetch(
        cls,
        prefetch: Mapping[str, Any],
        *,
        patient_id: str,
        prediction_time: datetime,
        encounter_id: str | None = None,
        expected: Mapping[str, str],
        fetch_attachment: FetchAttachment | None = None,
    ) -> PatientRecord:
        """From the prefetch of a CDS Hooks request; `expected` maps each template's key to its resource type.

        A key that is missing, null, empty or an OperationOutcome means *not fetched*; an empty searchset means *none
        found* (https://cds-hooks.hl7.org, "Prefetch Tokens" and "Prefetch Query Restrictions").
        """
        entries: list[Entry] = []
        refused: list[Refusal] = []
        not_fetched: set[str] = set()
        for key, resource_type in expected.items():
            value = prefetch.get(key)
            kind = value.get("resourceType") if isinstance(value, dict) else None
            if isinstance(value, dict) and kind == "Bundle":
                reading = read_bundle(value, name=f"prefetch.{key}", resource_type=resource_type)
                entries.extend(reading.entries)
                refused.extend(reading.refused)
                not_fetched |= reading.incomplete
            elif isinstance(value, dict) and isinstance(kind, str) and kind != "OperationOutcome":
                entries.append(Entry(value))
            elif value is None or value == {} or kind == "OperationOutcome":
                not_fetched.add(resource_type)
                refused.append(Refusal(f"prefetch.{key}", "not-fetched"))
            else:
                raise InvalidInputError("a prefetch value that is no FHIR resource", position=f"prefetch.{key}")
        reading = Reading(tuple(entries), tuple(refused))
        return _build(cls, reading, patient_id, prediction_time, encounter_id, frozenset(not_fetched), fetch_attachment)

    def availability(self, resource_type: str) -> Availability:
        """Whether resources of this type came, are known to be none, or were not (completely) asked for."""
        if resource_type in self._present:
            return Availability.FETCHED
        return Availability.NOT_FETCHED if resource_type in self.not_fetched else Availability.ABSENT

    def features(self) -> FeatureVector:
        """Named values in canonical units, each with its sources and time; what is unknown has a reason."""
        return features.compute(self)

    def notes(self) -> tuple[Note, ...]:
        """Notes known by the prediction time, newest first, each text once."""
        return self._notes

    def to_markdown(self, budget: int = 4096) -> str:
        """The record as Markdown for an encoder, at most `budget` tokens (about four characters each)."""
        return serialise.to_markdown(self, budget)

    def to_codes(self, budget: int = 4096) -> str:
        """Recent code descriptions, newest first, each once, at most `budget` tokens."""
        return serialise.to_codes(self, budget)

    def to_meds(self) -> tuple[dict[str, Any], ...]:
        """MEDS rows (subject_id, time, code, numeric_value, text_value) in time order."""
        return serialise.to_meds(self)


def _as_time(value: datetime | str | None) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        instant = parse_instant(value)
        if instant is None:
            raise InvalidInputError(f"prediction_time {value!r} is not a FHIR date or dateTime")
        return moment(instant)
    if value.tzinfo is None:
        raise InvalidInputError("prediction_time has no time zone")
    return value.astimezone(UTC)


def _build(
    cls: type[PatientRecord],
    reading: Reading,
    patient_id: str | None,
    prediction_time: datetime | None,
    encounter_id: str | None,
    not_fetched: frozenset[str],
    fetch_attachment: FetchAttachment | None,
) -> PatientRecord:
    directory = Directory.of(reading.entries)
    patient = _patient(reading, patient_id)
    key = f"Patient/{patient['id']}"
    refused = [*reading.refused]
    ours = _ours(reading, directory, key, refused)
    at = prediction_time or _latest(ours, patient)
    usable = [item for item in ours if not _unusable(item, refused)]

    def of_type(*types: str) -> list[tuple[str, Resource]]:
        return [(source, entry.resource) for source, entry in usable if entry.kind in types]

    def read(reader: Callable[..., Any], *types: str) -> list[Any]:
        answers = [reader(resource, source, directory, at) for source, resource in of_type(*types)]
        refused.extend(answer for answer in answers if isinstance(answer, Refusal))
        return [answer for answer in answers if answer is not None and not isinstance(answer, Refusal)]

    all_stays, members, stay_refusals = stays.read_stays(of_type("Encounter"), directory, at)
    refused.extend(stay_refusals)
    read_values = [(source, e.resource) for source, e in usable if e.kind == "Observation" and concerns(e.head)]
    measurements, aware = _measurements(read_values, at, refused)
    read_notes, note_refusals = notes.read_notes(
        of_type(*NOTE_TYPES), at, directory, key, fetch=fetch_attachment, undated=prediction_time is None
    )
    refused.extend(note_refusals)
    died = parse_instant(patient.get("deceasedDateTime"))
    if patient.get("deceasedBoolean") is True:
        refused.append(Refusal(key, "death-without-time"))
    return cls(
        subject_id=patient["id"],
        prediction_time=at,
        birth=parse_instant(patient.get("birthDate")),
        sex=patient["gender"] if patient.get("gender") in _SEXES else None,
        deceased=moment(died) if died is not None and reachable(died, at) else None,
        current_stay=_current_stay(all_stays, members, at, encounter_id, refused),
        stays=all_stays,
        conditions=tuple(read(clinical.read_condition, "Condition")),
        medications=tuple(read(clinical.read_medication, "MedicationRequest", "MedicationStatement")),
        procedures=tuple(read(clinical.read_procedure, "Procedure")),
        measurements=measurements,
        consciousness=aware,
        refused=tuple(refused),
        not_fetched=not_fetched | reading.incomplete,
        _notes=read_notes,
        _present=frozenset(entry.kind for _, entry in usable) | {"Patient"},
    )


def _patient(reading: Reading, patient_id: str | None) -> Resource:
    patients = {
        entry.resource["id"]: entry.resource
        for entry in reading.entries
        if entry.kind == "Patient" and isinstance(entry.resource.get("id"), str)
    }
    if patient_id is not None:
        if patient_id in patients:
            return patients[patient_id]
        if patients and not reading.population:
            raise ForeignPatientError("the Patient in the data is not the one asked for", source="Patient")
        raise PatientNotFoundError("no Patient with the id asked for", found=tuple(patients))
    if not patients:
        raise PatientNotFoundError("the data hold no Patient with an id")
    if len(patients) > 1:
        raise PatientNotFoundError(f"the data hold {len(patients)} patients; say which one", found=tuple(patients))
    return next(iter(patients.values()))


def _ours(reading: Reading, directory: Directory, patient: str, refused: list[Refusal]) -> list[Mine]:
    """Every resource proven to be the patient's, each once in its newest version."""
    newest: dict[str, Entry] = {}
    proven: set[str] = set()
    for position, entry in enumerate(reading.entries):
        if entry.kind not in _PERSONAL or entry.include:
            continue
        head = entry.head
        source = source_of(head, position)
        subject = head.get("subject") or head.get("patient")
        text = subject.get("reference") if isinstance(subject, dict) else None
        if text not in proven or "focus" in head:
            reason = _not_ours(head, source, directory, patient, population=reading.population)
            if reason is not None:
                refused.extend([Refusal(source, reason)] if reason else [])
                continue
            proven.add(str(text))
        if source not in newest or _version(entry.resource) >= _version(newest[source].resource):
            newest[source] = entry
    return list(newest.items())


def _not_ours(resource: Resource, source: str, directory: Directory, patient: str, *, population: bool) -> str | None:
    """None when it is the patient's; "" when it is another member of a population; else the reason it is not used."""
    subject = resource.get("subject") or resource.get("patient")
    owner = directory.ownership(subject, patient)
    if owner is Ownership.FOREIGN:
        reference = subject.get("reference") if isinstance(subject, dict) else None
        if isinstance(reference, str) and reference.startswith(("Group/", "Device/", "Location/")):
            return "subject-not-a-patient"
        if population:
            return ""
        raise ForeignPatientError(f"{source} belongs to another patient; nothing is computed", source=source)
    if owner is Ownership.UNPROVABLE:
        return "subject-unprovable"
    focus = resource.get("focus")
    if isinstance(focus, list) and any(directory.ownership(item, patient) is not Ownership.OURS for item in focus):
        return "focus-is-somebody-else"
    return None


def _version(resource: Resource) -> tuple[datetime, str]:
    meta = resource.get("meta")
    updated = parse_instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None
    number = str(meta.get("versionId", "")) if isinstance(meta, dict) else ""
    return (updated.latest if updated else datetime.min.replace(tzinfo=UTC), number.rjust(20, "0"))


def _unusable(item: Mine, refused: list[Refusal]) -> bool:
    """A modifierExtension or implicitRules may turn the meaning round: what we do not understand we do not use."""
    source, resource = item[0], item[1].head
    for name in ("modifierExtension", "implicitRules"):
        if resource.get(name):
            refused.append(Refusal(source, "modifier-extension" if name == "modifierExtension" else "implicit-rules"))
            return True
    return False


def _latest(ours: Sequence[Mine], patient: Resource) -> datetime:
    """The latest clinical time in the data: the moment at which everything in it was known."""
    texts = {text for _, entry in ours for text in _times(entry.head)}
    instants = [instant for instant in map(parse_instant, texts) if instant is not None]
    if instants:
        return max(instant.latest for instant in instants)
    fallback = parse_instant(patient.get("birthDate"))
    if fallback is None:
        raise InvalidInputError("the data hold no time at all; give a prediction_time")
    return fallback.latest


def _times(head: Resource) -> Iterator[str]:
    for name in _MOMENTS.intersection(head):
        if isinstance(head[name], str):
            yield head[name]
    for name in _PERIODS.intersection(head):
        if isinstance(head[name], dict):
            yield from (text for text in (head[name].get("start"), head[name].get("end")) if isinstance(text, str))


def _measurements(
    observations: Sequence[tuple[str, Resource]], at: datetime, refused: list[Refusal]
) -> tuple[tuple[Measurement, ...], tuple[str, datetime, str] | None]:
    found: list[Measurement] = []
    aware: tuple[str, datetime, str] | None = None
    for source, resource in observations:
        for answer in measure(resource, source, at):
            if isinstance(answer, Measurement):
                found.append(answer)
            else:
                refused.append(answer)
        word = consciousness(resource, at)
        if word is not None and (aware is None or word[1] >= aware[1]):
            aware = (word[0], word[1], source)
    # A final value comes after a preliminary one of the same moment and so becomes the last; ids break the other ties.
    found.sort(key=lambda item: (item.concept, item.time, not item.preliminary, item.source))
    return tuple(_without_ties(found, refused)), aware


def _without_ties(items: Sequence[Measurement], refused: list[Refusal]) -> list[Measurement]:
    """One value per concept and moment: final over preliminary, then the greatest source id; the other is named."""
    kept: list[Measurement] = []
    for item in items:
        if kept and (kept[-1].concept, kept[-1].time) == (item.concept, item.time):
            if kept[-1].value != item.value:
                refused.append(Refusal(kept[-1].source, "same-time-other-value"))
            kept[-1] = item
        else:
            kept.append(item)
    return kept


def _current_stay(
    all_stays: Sequence[Stay],
    members: Mapping[str, str],
    at: datetime,
    encounter_id: str | None,
    refused: list[Refusal],
) -> Stay | None:
    """The inpatient stay asked for, or the one running (or just ending) at the prediction time."""
    inpatient = [stay for stay in all_stays if stay.stay_class is StayClass.INPATIENT]
    if encounter_id is not None:
        root = members.get(f"Encounter/{encounter_id.removeprefix('Encounter/')}")
        if root is None:
            refused.append(Refusal(f"Encounter/{encounter_id}", "encounter-not-found"))
        return next((stay for stay in inpatient if stay.source == root), None)
    running = [stay for stay in inpatient if stay.end is None or stay.end >= at]
    return running[-1] if running else None
