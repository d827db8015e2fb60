"""Literature for a patient's values: the problems they show, and a vector of the evidence on those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from knowledge_index import KnowledgeIndex, Query
from risk_model import Experiencer, NoteFindings, Polarity, Temporality

PER_PROBLEM = 3
MOST_PROBLEMS = 12
_OUTCOME = ("hospital mortality", "D017052")
# Problem in the words of the literature, input, and the values that show it: at least `low`, at most `high`. Borders
# are the usual clinical ones and were not fitted.
_SHOWN_BY = (
    ("hypotension", "systolic_bp.min", 0, 90), ("tachycardia", "heart_rate.max", 120, 400),
    ("fever", "temperature.max", 38.5, 50), ("hypothermia", "temperature.min", 0, 35.5),
    ("thrombocytopenia", "platelets.min", 0, 100), ("hyponatremia", "sodium.min", 0, 130),
    ("hypernatremia", "sodium.max", 150, 300), ("hyperkalemia", "potassium.max", 5.5, 20),
    ("hyperglycemia", "glucose.max", 250, 5000), ("anemia", "hematocrit.min", 0, 25),
    ("hypoalbuminemia", "albumin.min", 0, 2.5), ("leukocytosis", "wbc.max", 20, 900), ("aged", "age.last", 80, 130),
    ("coma", "note.gcs.min", 0, 8), ("coma", "note.gcs.grade_min", -2, -2),
    ("lactic acidosis", "note.lactate.max", 4, 50), ("lactic acidosis", "note.lactate.grade_max", 2, 2),
    ("acute kidney injury", "note.creatinine.max", 2, 50), ("uremia", "note.bun.max", 60, 400),
    ("jaundice", "note.bilirubin.max", 3, 90), ("jaundice", "note.bilirubin.grade_max", 1, 2),
    ("oliguria", "note.urine_rate.min", 0, 30), ("oliguria", "note.urine_rate.grade_min", -2, -1),
    ("acidosis", "note.ph.min", 0, 7.25), ("respiratory insufficiency", "note.mechanical_ventilation.max", 1, 1),
)  # fmt: skip


def problems(values: Mapping[str, float], findings: NoteFindings | None = None) -> tuple[str, ...]:
    """Problems that values (by input name) show, and those that notes name, once each."""
    shown = [name for name, source, low, high in _SHOWN_BY if source in values and low <= values[source] <= high]
    named = [] if findings is None else [f.name for f in findings.findings if _is_so(f)]
    return tuple(dict.fromkeys((*shown, *named)))[:MOST_PROBLEMS]


def _is_so(finding: object) -> bool:
    known = (getattr(finding, name) for name in ("polarity", "temporality", "experiencer"))
    return tuple(known) == (Polarity.PRESENT, Temporality.CURRENT, Experiencer.PATIENT)


class EvidenceVectors:
    """Mean vector of the passages retrieved for each problem; a problem is asked about once."""

    def __init__(self, index: KnowledgeIndex) -> None:
        self._index = index
        self._known: dict[str, NDArray[np.float32] | None] = {}

    def of(self, patients: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Shape (patients, dimensions), L2-normalised; NaN for a patient nothing was found for."""
        found = np.full((len(patients), self._index.encoder.dimensions), np.nan, dtype=np.float32)
        for place, names in enumerate(patients):
            vectors = [vector for name in names if (vector := self._vector(name)) is not None]
            if vectors:
                mean = np.mean(vectors, axis=0)
                found[place] = mean / np.linalg.norm(mean)
        return found

    def _vector(self, name: str) -> NDArray[np.float32] | None:
        if name not in self._known:
            linked = self._index.link_text(name)
            concepts = (*(item.concept.ui for item in linked), _OUTCOME[1])
            evidence = self._index.search(Query(f"{name} {_OUTCOME[0]}", concepts), k=PER_PROBLEM)
            passages = [item.passage for item in evidence]
            self._known[name] = self._index.encoder.encode(passages).mean(axis=0) if passages else None
        return self._known[name]
