"""PatientRecord: one patient as known at `prediction_time`. `cutoff` removes later data on every way to build one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypedDict, Unpack

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.times import FIRST_YEAR, moment, parse_instant
from fhir_mapping.core.values import (
    Administration,
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
    UndatedEncounter,
)
from fhir_mapping.notes import documents
from fhir_mapping.notes.attachments import FetchAttachment
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.prefetch import FhirPrefetch, read_prefetch
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import ParsedInput, ResourceEntry, read_bytes
from fhir_mapping.record import features, meds, serialization
from fhir_mapping.record.cutoff import Cutoff, Encountered, Known
from fhir_mapping.record.patient_compartment import (
    NOTE_TYPES,
    Owned,
    find_patient,
    latest_time,
    select_patient_resources,
)
from fhir_mapping.record.personal_words import personal_words
from fhir_mapping.record.result_times import ResultTimes
from fhir_mapping.record.stay_selection import NO_STAY, current_stay, made_elsewhere
from fhir_mapping.record.usable_resources import Charted, select_usable
from fhir_mapping.resources import clinical, stays
from fhir_mapping.resources.demographics import Demographics, read_demographics
from fhir_mapping.resources.measurements import read_observations
from fhir_mapping.resources.site_maps import SiteMap, shipped
from fhir_mapping.terminology.absence import Absence

_MEDICATIONS = ("MedicationRequest", "MedicationStatement")


class RecordOptions(TypedDict, total=False):
    """Optional arguments of every constructor of PatientRecord.

    encounter_id       id of the current stay; by default the one running at the prediction time
    not_fetched        resource types that were not requested
    fetch_attachment   `fetch_attachment(url)` returns a note at a URL, as bytes or as a Binary resource
    site_map           translates a site's own codes; by default the shipped map
    undated_known      the data were fetched at `prediction_time`: undated resources of a running encounter were known
                       (`fhir_mapping.record.cutoff`); always true without a `prediction_time`
    """

    encounter_id: str | None
    not_fetched: frozenset[str]
    fetch_attachment: FetchAttachment | None
    site_map: SiteMap | None
    undated_known: bool


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """One patient as known at `prediction_time` (UTC).

    >>> record = PatientRecord.from_json(b'[{"resourceType": "Patient", "id": "p", "birthDate": "1950-01-02"}]',
    ...                                  prediction_time="2024-05-01T00:00:00Z")
    >>> record.features().number("age.last"), record.current_stay
    (74.0, None)

    `PatientRecord.from_json(raw)` takes a Bundle, a list, one resource, or NDJSON; `from_resources` dictionaries;
    `from_prefetch` the prefetch of a CDS Hooks request. All raise InvalidInputError, PatientNotFoundError, or, if a
    clinical resource belongs to another patient, ForeignPatientError.

    `encounters` are the Encounters behind `stays`, one by one, with the key of the one each is part of.
    `consciousness` is the latest coded level (`alert`, `voice`, `pain`, `unresponsive` or `confusion`), its time and
    its source.
    """

    subject_id: str
    prediction_time: datetime
    demographics: Demographics
    current_stay: Stay | None
    stays: tuple[Stay, ...]
    encounters: tuple[Stay, ...]
    conditions: tuple[Condition, ...]
    medications: tuple[Medication, ...]
    administrations: tuple[Administration, ...]
    procedures: tuple[Procedure, ...]
    measurements: tuple[Measurement, ...]
    consciousness: tuple[str, datetime, str] | None
    refused: tuple[Refusal, ...]
    not_fetched: frozenset[str]
    no_stay: str
    """Why `current_stay` is None: `no-stay`, `encounter-not-found`, `not-fetched`, or why it is unknown whether an
    encounter is one (`no-start`, `no-class`, `class-not-understood`); an empty string if there is a stay."""
    undated_encounters: tuple[UndatedEncounter, ...]
    elsewhere: frozenset[str]
    """Keys of visits in person during the stay that are not part of it."""
    identifiers: frozenset[str] = field(repr=False, compare=False)
    """Names, addresses and numbers of the patient and people around; only de-identification uses them."""
    _notes: tuple[Note, ...] = field(repr=False)
    _present: frozenset[str] = field(repr=False)
    _charted: Charted = field(repr=False, compare=False)
    _known_from: Mapping[str, Encountered] = field(repr=False, compare=False)
    _feature_cache: dict[str, FeatureVector] = field(init=False, repr=False, compare=False, default_factory=dict)

    @property
    def birth(self) -> Instant | None:
        """The birth date with its precision, or None if unknown."""
        return self.demographics.birth

    @property
    def sex(self) -> str | None:
        """FHIR administrative gender: `female`, `male` or `other`; None if unknown."""
        return self.demographics.sex

    @property
    def deceased(self) -> datetime | None:
        """The time of death if it is at or before the prediction time, else None."""
        return self.demographics.deceased

    @classmethod
    def from_json(
        cls,
        raw: bytes | str,
        patient_id: str | None = None,
        prediction_time: datetime | str | None = None,
        **options: Unpack[RecordOptions],
    ) -> PatientRecord:
        """Returns the record in the bytes of a Bundle, a resource, a list of resources, or NDJSON.

        `prediction_time=None` means the latest clinical time in the data. NDJSON may contain many patients: then
        `patient_id` selects one and the others are ignored; in a Bundle they raise ForeignPatientError.
        """
        return cls.from_parsed(read_bytes(raw), patient_id, prediction_time, **options)

    @classmethod
    def from_parsed(
        cls,
        parsed: ParsedInput,
        patient_id: str | None = None,
        prediction_time: datetime | str | None = None,
        **options: Unpack[RecordOptions],
    ) -> PatientRecord:
        """Returns the record in parsed input, of several files by `ParsedInput.merged`; arguments as in `from_json`."""
        return _build(cls, parsed, patient_id, prediction_time, options)

    @classmethod
    def from_resources(
        cls,
        resources: Iterable[Resource],
        patient_id: str | None = None,
        prediction_time: datetime | str | None = None,
        **options: Unpack[RecordOptions],
    ) -> PatientRecord:
        """Returns the record in parsed resources; arguments as in `from_json`."""
        return cls.from_entries(
            (ResourceEntry(resource) for resource in resources), patient_id, prediction_time, **options
        )

    @classmethod
    def from_entries(
        cls,
        entries: Iterable[ResourceEntry],
        patient_id: str | None = None,
        prediction_time: datetime | str | None = None,
        **options: Unpack[RecordOptions],
    ) -> PatientRecord:
        """Returns the record in entries of dictionaries or of undecoded JSON; arguments as in `from_json`."""
        return _build(cls, ParsedInput(tuple(entries)), patient_id, prediction_time, options)

    @classmethod
    def from_prefetch(
        cls,
        prefetch: FhirPrefetch | Mapping[str, Any],
        *,
        patient_id: str,
        prediction_time: datetime,
        expected: Mapping[str, str],
        **options: Unpack[RecordOptions],
    ) -> PatientRecord:
        """Returns the record in the prefetch of a CDS Hooks request; `expected` maps each key to its resource type.

        A value is a dictionary, or a Bundle from `fhir_mapping.parsing.unread` with undecoded resources. A key that is
        missing, null, empty or an OperationOutcome means *not fetched*; an empty searchset means *none found*
        (https://cds-hooks.hl7.org, "Prefetch Tokens" and "Prefetch Query Restrictions").
        """
        return _build(cls, read_prefetch(prefetch, expected), patient_id, prediction_time, options)

    def availability(self, resource_type: str) -> Availability:
        """Returns whether resources of this type were fetched, are known to be absent, or were not (all) fetched."""
        if resource_type in self._present:
            return Availability.FETCHED
        return Availability.NOT_FETCHED if resource_type in self.not_fetched else Availability.ABSENT

    def features(self) -> FeatureVector:
        """Returns named values in canonical UCUM units with sources and times, and reasons for unknown ones.

        Computed once and cached: every score, card and page of a record needs them.
        """
        if "features" not in self._feature_cache:
            self._feature_cache["features"] = features.compute(self)
        return self._feature_cache["features"]

    def notes(self) -> tuple[Note, ...]:
        """Returns the notes known at the prediction time, newest first, without duplicates."""
        return self._notes

    def to_markdown(self, budget: int = 4096) -> str:
        """Returns the record as Markdown for an encoder, at most `budget` tokens of about four characters."""
        return serialization.to_markdown(self, budget)

    def to_codes(self, budget: int = 4096) -> str:
        """Returns code descriptions, newest first, each once, at most `budget` tokens of about four characters."""
        return serialization.to_codes(self, budget)

    def to_meds(self) -> tuple[dict[str, Any], ...]:
        """Returns MEDS rows (subject_id, time, code, numeric_value, text_value), static first, then in time order."""
        return meds.to_meds(self)

    def charted(self) -> Iterator[tuple[str, Resource]]:
        """Yields key and resource of every Observation known at the prediction time, also those no feature uses."""
        return self._charted.known_by(self.prediction_time)

    def known_from(self, source: str) -> Encountered | None:
        """Returns when a condition, medication or procedure without a date of its own was known; None for others."""
        return self._known_from.get(source)

    def without_charted(self) -> PatientRecord:
        """A copy that keeps no raw Observations, for caches: its `charted()` yields nothing."""
        return replace(self, _charted=Charted())


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
    if value.year < FIRST_YEAR:
        raise InvalidInputError(f"prediction_time is in the year {value.year}, before {FIRST_YEAR}")
    return value.astimezone(UTC)


def _build(
    cls: type[PatientRecord],
    reading: ParsedInput,
    patient_id: str | None,
    prediction_time: datetime | str | None,
    options: RecordOptions,
) -> PatientRecord:
    requested = _as_time(prediction_time)
    site = options.get("site_map") or shipped()
    directory = Directory.of(reading.entries, site.translate)
    subject, patient = find_patient(reading, directory, patient_id)
    refused = [*reading.refused]
    owned = select_patient_resources(reading, directory, f"Patient/{subject}", refused)
    at = requested or latest_time(owned, patient)
    if at is None:
        raise InvalidInputError("the data contain no dates; give a prediction_time")
    encounters = {source: site.translate(entry.elements) for source, entry in owned if entry.kind == "Encounter"}
    # The directory holds the cutoff from here on. A proxy back keeps the two from outliving this call: together they
    # hold every resource, and serving collects cycles rarely.
    undated_known = requested is None or options.get("undated_known", False)
    cutoff = Cutoff(encounters, weakref.proxy(directory), at, undated_known=undated_known)
    directory.restrict(lambda key, resource: cutoff.known(key, resource) is Known.YES)
    known, later = _cut(owned, cutoff, refused)
    times = ResultTimes(known, later, directory, at)
    observations, usable = select_usable(known, site, cutoff, times, refused)

    def of_type(*types: str) -> list[tuple[str, Resource]]:
        return [item for item in usable if item[1]["resourceType"] in types]

    def read(reader: Callable[..., Any], *types: str) -> tuple[Any, ...]:
        answers = [reader(resource, source, directory, at) for source, resource in of_type(*types)]
        refused.extend(answer for answer in answers if isinstance(answer, Refusal))
        return tuple(answer for answer in answers if not isinstance(answer, Refusal))

    asked = options.get("encounter_id")
    asked_key = None if asked is None else f"Encounter/{asked.removeprefix('Encounter/')}"
    read_stays = stays.read_stays(of_type("Encounter"), directory, at, asked_key, current=undated_known)
    refused.extend(read_stays.refused)
    stay, no_stay = current_stay(read_stays, at, asked_key, refused)
    elsewhere = frozenset() if stay is None else read_stays.other_visits(stay)
    if stay is not None and elsewhere:
        observations = [item for item in observations if not made_elsewhere(item, stay, elsewhere, directory, refused)]
    measurements, avpu = read_observations(observations, directory, refused, preliminary=site.preliminary)
    read_notes, note_refusals = documents.read_notes(
        of_type(*NOTE_TYPES),
        at,
        directory,
        f"Patient/{subject}",
        fetch=options.get("fetch_attachment"),
        undated=requested is None,
        later=later,
    )
    refused.extend(note_refusals)
    conditions = read(partial(clinical.read_condition, current=undated_known), "Condition")
    medications = read(partial(clinical.read_medication, current=undated_known), *_MEDICATIONS)
    procedures = read(clinical.read_procedure, "Procedure")
    undated = {c.source for c in conditions if c.recorded is None}
    undated |= {m.source for m in medications if m.start is None} | {p.source for p in procedures if not p.performed}
    found = {"Condition": conditions, "Procedure": procedures} | dict.fromkeys(_MEDICATIONS, medications)
    not_fetched = options.get("not_fetched", frozenset()) | reading.incomplete | _stated_unknown(refused, found)
    return cls(
        subject_id=subject,
        prediction_time=at,
        demographics=read_demographics(
            patient, f"Patient/{subject}", at, refused, undated_death=cutoff.undated_death_is_known()
        ),
        current_stay=stay,
        stays=read_stays.stays,
        encounters=read_stays.encounters,
        conditions=conditions,
        medications=medications,
        administrations=read(clinical.read_administration, "MedicationAdministration"),
        procedures=procedures,
        measurements=measurements,
        consciousness=avpu,
        refused=tuple(refused),
        not_fetched=not_fetched,
        no_stay="not-fetched" if no_stay == NO_STAY and "Encounter" in not_fetched and not asked else no_stay,
        undated_encounters=read_stays.undated,
        elsewhere=elsewhere,
        identifiers=personal_words(patient, reading.entries),
        _notes=read_notes,
        _present=frozenset(entry.kind for source, entry in known if source not in later) | {"Patient"},
        _charted=Charted(tuple(item for item in known if item[1].kind == "Observation"), site, times.settled),
        _known_from={source: cutoff.known_from(source, resource) for source, resource in usable if source in undated},
    )


def _stated_unknown(refused: Iterable[Refusal], found: Mapping[str, Sequence[Any]]) -> frozenset[str]:
    """Returns the types of which the data only state that nothing is known: that is not none."""
    stated = {refusal.source.partition("/")[0] for refusal in refused if refusal.reason == Absence.UNKNOWN}
    return frozenset(kind for kind in stated if not found.get(kind))


def _cut(owned: Sequence[Owned], cutoff: Cutoff, refused: list[Refusal]) -> tuple[list[Owned], frozenset[str]]:
    """Returns what was known, and the keys of later notes, which are kept because what they replace was current then.

    Observations are not filtered here but in `_usable`, by the times in their structs.
    """
    kept: list[Owned] = []
    later: set[str] = set()
    for source, entry in owned:
        if entry.kind == "Observation":
            kept.append((source, entry))
            continue
        answer = cutoff.known(source, entry.elements)
        if answer is Known.UNDATED:
            refused.append(Refusal(source, "encounter-not-over"))
        if answer is Known.YES or entry.kind in NOTE_TYPES:
            kept.append((source, entry))
        if answer is not Known.YES:
            later.add(source)
    return kept, frozenset(later)
