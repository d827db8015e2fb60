"""Reads patients from a MEDS dataset: parquet rows become FHIR resources, so that both kinds of source share one path.

MEDS (Medical Event Data Standard, https://github.com/Medical-Event-Data-Standard/meds): rows `subject_id, time, code,
numeric_value` (and `text_value`, `unit`, `end` if present), each subject contiguous in one file; splits in
`metadata/subject_splits.parquet` are kept (tuning is validation, held_out is test). Times are read as UTC.

Codes are read as `VOCABULARY//code` or `VOCABULARY/code`, in the spellings of our own export, of MIMIC-IV in MEDS and
of OMOP in MEDS. A number without a unit is used only if its LOINC code fixes the unit. Codes of unknown vocabularies
are counted in `unread`. Needs the extra `[meds]`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from fhir_mapping.terminology import ACT_CODE, ICD9CM, ICD10CM, LOINC, RXNORM, SNOMED, definitions
from risk_model.cohorts.fhir_source import PatientData, Progress
from risk_model.core.errors import CohortError

Resource = dict[str, Any]
_VOCABULARIES = {
    "LOINC": LOINC, "SNOMED": SNOMED, "SNOMEDCT": SNOMED, "ICD10CM": ICD10CM, "ICD9CM": ICD9CM, "RXNORM": RXNORM,
    "ICD10": "http://hl7.org/fhir/sid/icd-10", "ICD10PCS": "http://hl7.org/fhir/sid/icd-10-pcs",
    "ICD9PROC": "http://hl7.org/fhir/sid/icd-9-cm/procedure",
}  # fmt: skip
_CONDITIONS = {ICD10CM, ICD9CM, "http://hl7.org/fhir/sid/icd-10"}
_PROCEDURES = {"http://hl7.org/fhir/sid/icd-10-pcs", "http://hl7.org/fhir/sid/icd-9-cm/procedure"}
_CLASSES = {"INPATIENT": "IMP", "EMERGENCY": "EMER", "OBSERVATION": "OBSENC", "OUTPATIENT": "AMB"}
_VISITS = {"IP": "IMP", "ERIP": "IMP", "ER": "EMER", "OP": "AMB"}
# (code, whether it starts or ends an encounter, class)
_EDGES = {
    "HOSPITAL_ADMISSION": (True, "IMP"), "HOSPITAL_DISCHARGE": (False, "IMP"),
    "ED_REGISTRATION": (True, "EMER"), "ED_OUT": (False, "EMER"),
    "ICU_ADMISSION": (True, "ICU"), "ICU_DISCHARGE": (False, "ICU"),
}  # fmt: skip
_ICD = {
    ("DIAGNOSIS", "10"): "ICD10CM", ("DIAGNOSIS", "9"): "ICD9CM",
    ("PROCEDURE", "10"): "ICD10PCS", ("PROCEDURE", "9"): "ICD9PROC",
}  # fmt: skip
_SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}
_COLUMNS = ("subject_id", "time", "code", "numeric_value", "text_value", "unit", "end")


class MedsDataset:
    """MedsDataset(folder).patients() yields PatientData. Raises CohortError if the folder holds no MEDS data."""

    def __init__(self, folder: Path, progress: Progress = lambda _: None) -> None:
        try:
            self._parquet = importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise CohortError("MEDS datasets need the extra [meds]: pip install 'riskcards[meds]'") from None
        data = folder / "data" if (folder / "data").is_dir() else folder
        self.files = tuple(p for p in sorted(data.rglob("*.parquet")) if "metadata" not in p.parts)
        if not self.files:
            raise CohortError(f"{folder}: no parquet files; expected a MEDS dataset with data/*.parquet")
        self._splits = self._read_splits(folder / "metadata" / "subject_splits.parquet")
        self._progress = progress
        self.unread: Counter[str] = Counter()

    def __enter__(self) -> MedsDataset:
        return self

    def __exit__(self, *_: object) -> None:
        if self.unread:
            worst = ", ".join(f"{name} ({number})" for name, number in self.unread.most_common(8))
            self._progress(f"codes of vocabularies not read: {worst}")

    @property
    def not_fetched(self) -> frozenset[str]:
        return frozenset({"DocumentReference", "Composition", "DiagnosticReport", "MedicationStatement"})

    @property
    def splits(self) -> Mapping[str, str]:
        """Subject -> train, validation or test, if the dataset has splits."""
        return self._splits

    def patients(self) -> Iterator[PatientData]:
        for subject, rows in self.subjects():
            yield PatientData(subject, _Chart(subject, self.unread).read(rows), self._splits.get(subject))

    def subjects(self) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
        """Yields each subject with its rows in file order; read them before the next subject."""
        seen: set[str] = set()
        for path in self.files:
            for subject, rows in groupby(self._rows(path), key=lambda row: str(row["subject_id"])):
                if subject in seen:
                    raise CohortError(f"{path}: subject {subject} is not contiguous, as MEDS asks; sort by subject_id")
                seen.add(subject)
                yield subject, rows
            self._progress(f"{path.name}: {len(seen):,} subjects")

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        try:
            file = self._parquet.ParquetFile(path)
            names = file.schema_arrow.names
            missing = [name for name in ("subject_id", "time", "code") if name not in names]
            if missing:
                raise CohortError(f"{path}: no column {missing[0]!r}; expected MEDS data")
            for batch in file.iter_batches(columns=[name for name in _COLUMNS if name in names]):
                yield from batch.to_pylist()
        except (OSError, ValueError) as error:
            if isinstance(error, CohortError):
                raise
            raise CohortError(f"{path}: cannot be read as parquet ({type(error).__name__})") from None

    def _read_splits(self, path: Path) -> Mapping[str, str]:
        if not path.exists():
            return {}
        rows = self._parquet.read_table(path).to_pylist()
        return {str(row["subject_id"]): _SPLITS[row["split"]] for row in rows if row.get("split") in _SPLITS}


@dataclass
class _Chart:
    """The resources of one subject while its rows are read."""

    subject: str
    unread: Counter[str]
    made: list[Resource] = field(default_factory=list)
    open: dict[str, Resource] = field(default_factory=dict)

    def read(self, rows: Iterator[dict[str, Any]]) -> tuple[Resource, ...]:
        patient: Resource = {"resourceType": "Patient", "id": self.subject}
        for row in rows:
            if not isinstance(row["code"], str):
                self.unread["null"] += 1
                continue
            head, *rest = row["code"].replace("//", "/").split("/")
            at = _time(row["time"])
            if head == "MEDS_BIRTH":
                patient["birthDate"] = at[:10] if at else None
            elif head == "MEDS_DEATH":
                patient |= {"deceasedDateTime": at} if at else {"deceasedBoolean": True}
            elif head == "GENDER" and rest:
                patient["gender"] = {"F": "female", "M": "male"}.get(rest[0][:1].upper())
            elif not self._encounter(head, rest, at, row):
                self._event(head, rest, at, row)
        return ({key: value for key, value in patient.items() if value is not None}, *self.made)

    def _encounter(self, head: str, rest: list[str], at: str | None, row: Mapping[str, Any]) -> bool:
        """Whether the row starts or ends an encounter."""
        text = row.get("text_value")
        if head == "ENCOUNTER" and len(rest) == 2:
            kind = _CLASSES.get(rest[0], rest[0])
            begins, words = rest[1] == "START", text
        elif head in _EDGES:
            begins, kind = _EDGES[head]
            words = rest[0] if rest else text
        elif head.upper() == "VISIT" and rest and rest[0] in _VISITS:
            kind, words = _VISITS[rest[0]], None
            begins = len(rest) < 2 or rest[1].casefold() == "start"
        else:
            return False
        if begins:
            self._begin(kind, at, _time(row.get("end")), words if head == "HOSPITAL_ADMISSION" else None)
        elif kind in self.open:
            self._end(self.open.pop(kind), at, words)
        else:
            self.unread["an end without a beginning"] += 1
        return True

    def _begin(self, kind: str, at: str | None, end: str | None, admission: str | None) -> None:
        encounter = self._new("Encounter", {"status": "in-progress", "period": {"start": at}})
        encounter["class"] = {"system": ACT_CODE, "code": "IMP" if kind == "ICU" else kind}
        if kind == "ICU":
            encounter["type"] = [_concept(SNOMED, "305351004")]
            if "IMP" in self.open:
                encounter["partOf"] = {"reference": f"Encounter/{self.open['IMP']['id']}"}
        if admission is not None:
            code = _ADMISSION_TYPES.get(admission.upper())
            encounter |= (
                {"priority": _concept("http://terminology.hl7.org/CodeSystem/v3-ActPriority", code)} if code else {}
            )
        if end is not None:
            self._end(encounter, end, None)
        else:
            self.open[kind] = encounter

    def _end(self, encounter: Resource, at: str | None, words: str | None) -> None:
        encounter["status"] = "finished"
        encounter["period"]["end"] = at
        if words:
            encounter["hospitalization"] = {"dischargeDisposition": _concept(None, words)}

    def _event(self, head: str, rest: list[str], at: str | None, row: Mapping[str, Any]) -> None:
        system, code, tail = _coding(head, rest)
        if system is None or code is None:
            self.unread[head] += 1
            return
        concept = _concept(system, code)
        if row.get("numeric_value") is not None and system == LOINC:
            unit = row.get("unit") or "/".join(tail)
            quantity = {"value": row["numeric_value"], **({"unit": unit} if unit else {})}
            self._new(
                "Observation", {"status": "final", "code": concept, "effectiveDateTime": at, "valueQuantity": quantity}
            )
        elif system == RXNORM:
            order = {"status": "active", "intent": "order", "medicationCodeableConcept": concept, "authoredOn": at}
            self._new("MedicationRequest", order)
        elif system in _PROCEDURES or (system == SNOMED and head == "PROCEDURE"):
            self._new("Procedure", {"status": "completed", "code": concept, "performedDateTime": at})
        elif system in _CONDITIONS or system == SNOMED:
            self._new("Condition", {"code": concept, "recordedDate": at})
        else:
            self.unread[f"{head} without a number"] += 1

    def _new(self, kind: str, content: Resource) -> Resource:
        made = {
            "resourceType": kind,
            "id": f"{self.subject}-{len(self.made)}",
            "subject": {"reference": f"Patient/{self.subject}"},
            **{key: value for key, value in content.items() if value is not None},
        }
        self.made.append(made)
        return made


_ADMISSION_TYPES = {
    "EMERGENCY": "EM", "EW EMER.": "EM", "DIRECT EMER.": "EM", "URGENT": "UR", "ELECTIVE": "EL",
    "SURGICAL SAME DAY ADMISSION": "EL",
}  # fmt: skip


def _coding(head: str, rest: list[str]) -> tuple[str | None, str | None, list[str]]:
    """Returns (system, code, the rest: a unit).

    >>> _coding("LOINC", ["2951-2", "mmol", "L"])
    ('http://loinc.org', '2951-2', ['mmol', 'L'])
    >>> _coding("DIAGNOSIS", ["ICD", "10", "I509"])[:2]
    ('http://hl7.org/fhir/sid/icd-10-cm', 'I509')
    """
    if head in {"DIAGNOSIS", "PROCEDURE"} and len(rest) >= 3 and rest[0] == "ICD":
        name = _ICD.get((head, rest[1]))
        return (_VOCABULARIES[name], rest[2], []) if name else (None, None, [])
    if head == "RISKCARDS" and rest and rest[0] in definitions().concepts:
        loinc = definitions().concepts[rest[0]].loinc
        return (LOINC, loinc[0], rest[1:]) if loinc else (None, None, [])
    system = _VOCABULARIES.get(head.upper().replace("-", "").replace("_", ""))
    return (system, rest[0], rest[1:]) if system and rest else (None, None, [])


def _concept(system: str | None, code: str | None) -> Resource:
    return {"coding": [{"code": code, **({"system": system} if system else {})}]}


def _time(value: Any) -> str | None:
    if not isinstance(value, datetime):
        return value if isinstance(value, str) else None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
