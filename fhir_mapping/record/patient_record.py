"""PatientRecord: one patient as known at `prediction_time`. Every constructor removes later data (`cutoff`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypedDict, Unpack

from fhir_mapping.core.errors import InvalidInputError
from fhir_mapping.core.times import FIRST_YEAR, moment, parse_instant
from fhir_mapping.core.values import (
    Condition,
    FeatureVector,
    Medication,
    Note,
    Procedure,
    Refusal,
    Stay,
)
from fhir_mapping.notes import documents
from fhir_mapping.notes.attachments import FetchAttachment
from fhir_mapping.parsing.elements import Resource
from fhir_mapping.parsing.prefetch import FhirPrefetch, read_prefetch
from fhir_mapping.parsing.references import Directory
from fhir_mapping.parsing.resource_reader import ParsedInput, ResourceEntry, read_bytes
from fhir_mapping.record import features, meds, serialization
from fhir_mapping.record.cutoff import Cutoff, Encountered
from fhir_mapping.record.patient_compartment import (
    NOTE_TYPES,
    find_patient,
    latest_time,
    select_patient_resources,
)
from fhir_mapping.record.personal_words import personal_words
from fhir_mapping.record.record_view import RecordView
from fhir_mapping.record.result_times import ResultTimes
from fhir_mapping.record.stay_selection import NO_STAY, current_stay, made_during
from fhir_mapping.record.usable_resources import Charted, UsableResources, cut, restricted_cutoff, select_usable
from fhir_mapping.resources import clinical, stays
from fhir_mapping.resources.demographics import read_demographics
from fhir_mapping.resources.measurements import read_observations
from fhir_mapping.site_maps.site_map import SiteMap, shipped
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
class PatientRecord(RecordView):
    """One patient as known at `prediction_time` (UTC).

    >>> record = PatientRecord.from_json(b'[{"resourceType": "Patient", "id": "p", "birthDate": "1950-01-02"}]',
    ...                                  prediction_time="2024-05-01T00:00:00Z")
    >>> record.features().number("age.last"), record.current_stay
    (74.0, None)

    `PatientRecord.from_json(raw)` takes a Bundle, a list, one resource, or NDJSON; `from_resources` dictionaries;
    `from_prefetch` the prefetch of a CDS Hooks request. All raise InvalidInputError, PatientNotFoundError, or, if a
    clinical resource belongs to another patient, ForeignPatientError. The values are those of `RecordView`.
    """

    _feature_cache: dict[str, FeatureVector] = field(init=False, repr=False, compare=False, default_factory=dict)

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

    def features(self) -> FeatureVector:
        """Returns named values in canonical UCUM units with sources and times, and reasons for unknown ones.

        Computed once and cached: every score, card and page of a record needs them.
        """
        if "features" not in self._feature_cache:
            self._feature_cache["features"] = features.compute(self)
        return self._feature_cache["features"]

    def to_markdown(self, budget: int = 4096) -> str:
        """Returns the record as Markdown for an encoder, at most `budget` tokens of about four characters."""
        return serialization.to_markdown(self, budget)

    def to_codes(self, budget: int = 4096) -> str:
        """Returns code descriptions, newest first, each once, at most `budget` tokens of about four characters."""
        return serialization.to_codes(self, budget)

    def to_meds(self) -> tuple[dict[str, Any], ...]:
        """Returns MEDS rows (subject_id, time, code, numeric_value, text_value), static first, then in time order."""
        return meds.to_meds(self)

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
    undated_known = requested is None or options.get("undated_known", False)
    site = options.get("site_map") or shipped()
    directory = Directory.of(reading.entries, site.translate)
    subject, patient = find_patient(reading, directory, patient_id)
    key, refused = f"Patient/{subject}", [*reading.refused]
    owned = select_patient_resources(reading, directory, key, refused)
    at = requested or latest_time(owned, patient)
    if at is None:
        raise InvalidInputError("the data contain no dates; give a prediction_time")
    cutoff = restricted_cutoff(directory, owned, site, at, undated_known=undated_known)
    known, later = cut(owned, cutoff, refused)
    times = ResultTimes(known, later, directory, at)
    observations, others = select_usable(known, site, cutoff, times, refused)
    usable = UsableResources(others, directory, at, refused)
    stay, no_stay, elsewhere, read_stays = _stays(usable, options.get("encounter_id"), current=undated_known)
    if stay is not None:
        observations = made_during(stay, elsewhere, observations, directory, refused)
    measurements, avpu = read_observations(observations, directory, refused, preliminary=site.preliminary)
    notes = _notes(usable, key, options.get("fetch_attachment"), later, undated=requested is None)
    conditions = usable.values(partial(clinical.read_condition, current=undated_known), "Condition")
    medications = usable.values(partial(clinical.read_medication, current=undated_known), *_MEDICATIONS)
    procedures = usable.values(clinical.read_procedure, "Procedure")
    found = {"Condition": conditions, "Procedure": procedures} | dict.fromkeys(_MEDICATIONS, medications)
    not_fetched = options.get("not_fetched", frozenset()) | reading.incomplete | _stated_unknown(refused, found)
    if no_stay == NO_STAY and "Encounter" in not_fetched and not options.get("encounter_id"):
        no_stay = "not-fetched"
    return cls(
        subject_id=subject,
        prediction_time=at,
        demographics=read_demographics(patient, key, at, refused, undated_death=cutoff.undated_death_is_known()),
        current_stay=stay,
        stays=read_stays.stays,
        encounters=read_stays.encounters,
        conditions=conditions,
        medications=medications,
        administrations=usable.values(clinical.read_administration, "MedicationAdministration"),
        procedures=procedures,
        measurements=measurements,
        consciousness=avpu,
        refused=tuple(refused),
        not_fetched=not_fetched,
        no_stay=no_stay,
        undated_encounters=read_stays.undated,
        elsewhere=elsewhere,
        identifiers=personal_words(patient, reading.entries),
        _notes=notes,
        _present=frozenset(entry.kind for source, entry in known if source not in later) | {"Patient"},
        _charted=Charted(tuple(item for item in known if item[1].kind == "Observation"), site, times.settled),
        _known_from=_known_from(cutoff, usable, _undated(conditions, medications, procedures)),
    )


def _stays(
    usable: UsableResources, encounter_id: str | None, *, current: bool
) -> tuple[Stay | None, str, frozenset[str], stays.StaysRead]:
    """Returns the current stay, or why there is none; the visits elsewhere during it; and all stays."""
    asked = None if encounter_id is None else f"Encounter/{encounter_id.removeprefix('Encounter/')}"
    found = stays.read_stays(usable.of_type("Encounter"), usable.directory, usable.at, asked, current=current)
    usable.refused.extend(found.refused)
    stay, no_stay = current_stay(found, usable.at, asked, usable.refused)
    return stay, no_stay, frozenset() if stay is None else found.other_visits(stay), found


def _notes(
    usable: UsableResources, patient: str, fetch: FetchAttachment | None, later: frozenset[str], *, undated: bool
) -> tuple[Note, ...]:
    found, refusals = documents.read_notes(
        usable.of_type(*NOTE_TYPES),
        usable.at,
        usable.directory,
        patient,
        fetch=fetch,
        undated=undated,
        later=later,
    )
    usable.refused.extend(refusals)
    return found


def _undated(
    conditions: Iterable[Condition], medications: Iterable[Medication], procedures: Iterable[Procedure]
) -> frozenset[str]:
    """Returns the keys of those without a date of their own."""
    return frozenset(
        {condition.source for condition in conditions if condition.recorded is None}
        | {medication.source for medication in medications if medication.start is None}
        | {procedure.source for procedure in procedures if not procedure.performed}
    )


def _known_from(cutoff: Cutoff, usable: UsableResources, undated: frozenset[str]) -> dict[str, Encountered]:
    """Returns when each of these resources was known, by its encounters."""
    return {source: cutoff.known_from(source, found) for source, found in usable.resources if source in undated}


def _stated_unknown(refused: Iterable[Refusal], found: Mapping[str, Sequence[Any]]) -> frozenset[str]:
    """Returns the types for which the data only state that nothing is known: unknown, not none."""
    stated = {refusal.source.partition("/")[0] for refusal in refused if refusal.reason == Absence.UNKNOWN}
    return frozenset(kind for kind in stated if not found.get(kind))
