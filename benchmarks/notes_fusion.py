"""Gain from notes that hold what the record lacks: structured, notes and both, against an oracle that sees all.

    python -m benchmarks.notes_fusion [--stays N] --out benchmarks/results/notes_fusion.json

No open data set has notes and real outcomes. As a substitute, a stated set of measurements (`note_writing.MOVED`) of
CinC 2012 stays with real outcomes leaves the structured record and is written in generated notes. The figure is the
share of the oracle's gain over structured-only that fusion wins back. Folds are by patient and by writing style:
evaluated patients are unknown to both stages, and so is the style of their notes. The shipped mortality models are not
used.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks import cinc_fhir, readme
from benchmarks.measuring import Remembering, write
from benchmarks.note_writing import MOVED, with_notes, writing_style_of, written
from benchmarks.notes_evidence import EvidenceVectors, problems
from benchmarks.notes_extraction import scores, summary
from benchmarks.outcome import say
from benchmarks.perfect_reading import newest_values, source_of, stated_values
from benchmarks.resampling import BOOTSTRAPS, Floats, resampled, with_interval
from fhir_mapping import PatientRecord
from knowledge_index import KnowledgeIndex
from risk_model import IN_HOSPITAL_MORTALITY, NoteFindings, RuleNoteReader
from risk_model.core.values import NoteValue
from risk_model.evaluation import measure
from risk_model.evaluation.metrics import SCORE_METRICS, auroc
from risk_model.features.inputs import input_names
from risk_model.features.note_inputs import note_inputs
from risk_model.features.note_measurements import NOTED, noted_names, with_note_values
from risk_model.first_stage.fusion import PatientReading, VectorBlock, frequent_findings, frequent_values, row
from risk_model.first_stage.patient_opinions import asked_windows
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.prompts import Window
from risk_model.training.gradient_boosting import PARAMETERS, held_out_margins

Part = tuple[Sequence[str], NDArray[np.float32]]
"""Names of inputs and their columns, shape (stays, names)."""
SEED = 2012
AT = cinc_fhir.ADMISSION + timedelta(hours=48)
EMBEDDED_NOTES, EMBEDDED_CHARACTERS = 2, 1000


@dataclass(frozen=True, slots=True)
class FusionStay:
    """One stay as each arm sees it."""

    id: str
    oracle: NDArray[np.float32]
    structured: NDArray[np.float32]
    findings: NoteFindings
    stated: Mapping[str, Mapping[str, float]]
    """Inputs made of the notes alone, by reader: `read`, or a reader without errors, `told` and `newest`."""
    noted: Mapping[str, NDArray[np.float32]]
    """Structured inputs with those values among the measurements, by reader."""
    texts: tuple[str, ...]
    windows: tuple[Window, ...]
    """What a language model that is a first stage is asked about."""
    seen: Mapping[str, tuple[str, ...]]
    """Problems to ask the literature about, by arm."""
    extraction: Counter[str]


_reader: RuleNoteReader | None = None


def _open() -> None:
    global _reader
    _reader = RuleNoteReader(KnowledgeIndex.open_starter(), embed=False)


def prepared(stay: cinc_fhir.IcuStay) -> FusionStay:
    """Everything that is computed of one stay alone; outcomes are not at hand here."""
    assert _reader is not None
    names = input_names(IN_HOSPITAL_MORTALITY)
    everything = PatientRecord.from_resources(cinc_fhir.to_fhir(stay), prediction_time=AT)
    record = PatientRecord.from_resources(with_notes(stay, SEED), prediction_time=AT)
    vector, notes = record.features(), record.notes()
    findings = _reader.read(notes)
    stated = note_inputs(findings.values)
    measured = {name: number for name in vector if (number := vector.number(name)) is not None}
    extraction: Counter[str] = Counter()
    for number, note in enumerate(written(stay, SEED)):
        source = source_of(stay, number)
        extraction.update(scores(note, [v for v in findings.values if v.note_source == source and v.counts]))
    read = {"read": findings.values, "told": stated_values(stay, SEED), "newest": newest_values(stay, SEED)}
    return FusionStay(
        id=stay.record_id,
        oracle=row(PatientReading(everything, everything.features()), names),
        structured=row(PatientReading(record, vector), names),
        findings=findings,
        stated={name: note_inputs(values) for name, values in read.items()},
        noted={name: _noted(record, values) for name, values in read.items()},
        texts=tuple(note.text[:EMBEDDED_CHARACTERS] for note in notes[:EMBEDDED_NOTES]),
        windows=asked_windows(notes),
        seen={
            "structured": problems(measured),
            "notes": problems(stated, findings),
            "fused": problems(measured | stated, findings),
        },
        extraction=extraction,
    )


def _noted(record: PatientRecord, values: Sequence[NoteValue]) -> NDArray[np.float32]:
    both = with_note_values(record, values)
    return row(PatientReading(both, both.features()), input_names(IN_HOSPITAL_MORTALITY))


def arms(stays: Sequence[FusionStay], y: Floats, cache: Path) -> dict[str, TrainingRows]:
    """The cohort of each arm: the same rows and outcomes, other inputs."""
    read = [stay.findings for stay in stays]
    stated, found = frequent_values(read), frequent_findings(read)
    present = [{f.name for f in findings.findings if f.polarity == "present"} for findings in read]
    concepts = np.array([[name.removeprefix("finding.") in p for name in found] for p in present], dtype=np.float32)
    structured = np.stack([stay.structured for stay in stays])
    plain = input_names(IN_HOSPITAL_MORTALITY)
    encoder = Remembering(cache)
    embedded = VectorBlock("notes", _embedded(stays, encoder))
    literature = EvidenceVectors(KnowledgeIndex.open_starter())
    evidence = {
        name: VectorBlock("evidence", literature.of([stay.seen[name] for stay in stays]))
        for name in ("structured", "notes", "fused")
    }

    def cohort(parts: Sequence[Part], *blocks: VectorBlock) -> TrainingRows:
        names = tuple(name for listed, _ in parts for name in listed)
        x = np.hstack([columns for _, columns in parts])
        whole = TrainingRows(IN_HOSPITAL_MORTALITY, names, x, y, tuple(stay.id for stay in stays), blocks)
        constant = set(whole.constants())
        return whole.select([name for name in names if name not in constant])

    def values_of(reader: str) -> Part:
        known = [stay.stated[reader] for stay in stays]
        return stated, np.array([[one.get(name, np.nan) for name in stated] for one in known], dtype=np.float32)

    def noted_by(reader: str) -> Part:
        chosen = noted_names(plain, stated)
        places = [plain.index(name.removeprefix(NOTED)) for name in chosen]
        return chosen, np.stack([stay.noted[reader] for stay in stays])[:, places]

    s, n, v, f = (plain, structured), noted_by("read"), values_of("read"), (found, concepts)
    return {
        "structured": cohort([s]),
        "structured, evidence": cohort([s], evidence["structured"]),
        "notes": cohort([v, f], embedded),
        "notes, evidence": cohort([v, f], embedded, evidence["notes"]),
        "fused": cohort([s, n, v, f], embedded),
        "fused, evidence": cohort([s, n, v, f], embedded, evidence["fused"]),
        "fused, values only": cohort([s, n, v]),
        "fused, values beside the record only": cohort([s, v]),
        "fused, findings and embedding only": cohort([s, f], embedded),
        "values told, read without a fault": cohort([s, noted_by("told"), values_of("told")]),
        "newest value of everything at each note": cohort([s, noted_by("newest"), values_of("newest")]),
        "oracle": cohort([(plain, np.stack([stay.oracle for stay in stays]))]),
    }


def _embedded(stays: Sequence[FusionStay], encoder: Remembering) -> NDArray[np.float32]:
    """Mean vector of each stay's newest notes, shape (stays, dimensions), L2-normalised."""
    vectors = encoder.encode([text for stay in stays for text in stay.texts])
    edges = np.cumsum([0, *(len(stay.texts) for stay in stays)])
    means = np.stack([vectors[a:b].mean(axis=0) for a, b in pairwise(edges)])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), dtype=np.float32)


def recovered(y: Floats, margins: Mapping[str, Floats], arm: str) -> dict[str, Any]:
    """Share of the oracle's gain in AUROC over structured-only that `arm` wins, resampling patients in pairs."""

    def shares(weight: Floats | None) -> Floats:
        low, middle, high = (auroc(y, margins[name], weight) for name in ("structured", arm, "oracle"))
        return np.array([(middle - low) / (high - low), high - low])

    (share, gain), draws = resampled(y, shares)
    of_gain = with_interval(float(gain), draws[:, 1])
    found = with_interval(float(share), draws[:, 0])
    return found | {"oracle_gain": of_gain["value"], "oracle_gain_interval": of_gain["interval"]}


def run(stays: Sequence[FusionStay], y: Floats, cache: Path) -> dict[str, Any]:
    """Every arm out of fold, style by style."""
    styles = np.array([writing_style_of(stay.id) for stay in stays])
    ids = [stay.id for stay in stays]
    margins: dict[str, Floats] = {}
    parameters = PARAMETERS[IN_HOSPITAL_MORTALITY]
    cohorts = arms(stays, y, cache)
    for name, cohort in cohorts.items():
        say(f"{perf_counter():.0f} s: {name}: {len(cohort.names)} inputs, {len(cohort.blocks)} vectors")
        with threadpool_limits(1):  # many small fits: threads would wait for each other longer than they work
            margins[name] = held_out_margins(cohort, styles, parameters, threads=1)
    say("bootstrapping")
    found = {name: measure(y, m, ids, metrics=SCORE_METRICS, bootstraps=BOOTSTRAPS) for name, m in margins.items()}
    unchanged = {"structured", "oracle"}
    shares = {name: recovered(y, margins, name) for name in cohorts if name not in unchanged}
    return {"arms": found, "recovered": shares}


def main() -> None:
    data = Path(os.environ.get("RISKCARDS_DATA", readme.ROOT.parent / "shared" / "data")) / "cinc2012"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data, help="the folder of set-a.csv.gz and Outcomes-a.csv")
    parser.add_argument("--stays", type=int, help="only the first so many (default: all)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=readme.ROOT / "out" / "notes_fusion", help="vectors made once")
    options = parser.parse_args()
    outcomes = cinc_fhir.read_outcomes(options.data / "Outcomes-a.csv")
    raw = list(islice(cinc_fhir.read_stays(options.data / "set-a.csv.gz"), options.stays))
    begun = perf_counter()
    with get_context("spawn").Pool(2, _open) as pool:
        stays = []
        for number, stay in enumerate(pool.imap(prepared, raw, chunksize=20), start=1):
            stays.append(stay)
            if number % 400 == 0:
                say(f"stays through FHIR, notes written and read: {number} of {len(raw)}")
    y = np.array([outcomes[stay.id]["In-hospital_death"] for stay in stays])
    by_style: dict[int, Counter[str]] = {}
    for stay in stays:
        by_style.setdefault(writing_style_of(stay.id), Counter()).update(stay.extraction)
    result = {
        "stays": len(stays),
        "outcomes": int(y.sum()),
        "moved_into_notes": sorted(MOVED.values()),
        "judged": "out of fold by patient and by house: writing styles of the judged patients are unknown to training",
        "extraction": summary(by_style),
        **run(stays, y, options.cache),
    }
    say(f"{perf_counter() - begun:.0f} seconds")
    write(options.out, result)


if __name__ == "__main__":
    main()
