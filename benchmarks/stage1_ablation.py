"""What each part of stage 1 gives to stage 2: its estimate, its reasons, the notes themselves, the literature.

    python -m benchmarks.stage1_ablation [--stays N] --out benchmarks/results/stage1_ablation.json

The stays, notes, houses and outcomes of `notes_fusion`: what moved into notes is nowhere in the structured record.
Stage 1 is a logistic regression over what the notes say (`language.note_reasoner.NoteReasoner`), fitted anew for every
fold; its reasons are the statements that weigh most, embedded. Every arm is judged out of fold by patient and by house.
One arm breaks the rule on purpose: its stage 1 answers for patients it learned from.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks import cinc_fhir, notes_fusion, readme
from benchmarks.measuring import Remembering, write
from benchmarks.note_writing import house_of
from benchmarks.notes_fusion import Stay, prepared, recovered
from benchmarks.outcome import say
from benchmarks.resampling import BOOTSTRAPS, Floats, resampled, with_interval
from risk_model.fusion import Block, Learned, VectorBlock, fit_head
from risk_model.language.note_reasoner import NoteReasoner, labels_of
from risk_model.language.rationale import (
    Embed,
    Fitted,
    LearnedReasons,
    PhraseVectors,
    ReasonBlock,
    Reasoner,
    Rows,
)
from risk_model.metrics import SCORE_METRICS, auroc, measure
from risk_model.tasks import IN_HOSPITAL_MORTALITY
from risk_model.training import PARAMETERS, Cohort, held_out_margins

Arm = tuple[Cohort, tuple[Block, ...]]


@dataclass
class Remembered:
    """A reasoner that is fitted once for the same rows: the arms share folds and outcomes."""

    reasoner: Reasoner
    known: dict[bytes, Fitted] = field(default_factory=dict)

    def learn(self, y: Floats, rows: Rows) -> Fitted:
        key = rows.tobytes()
        if key not in self.known:
            self.known[key] = self.reasoner.learn(y, rows)
        return self.known[key]


@dataclass
class InFold:
    """What not to do: the first stage of an outer fold answers for the very patients it learned from."""

    reasoner: Reasoner
    embed: Embed
    outer: NDArray[np.bool_] | None = None

    def learn(self, y: Floats, rows: Rows, fold: NDArray[np.int64]) -> Learned:
        if self.outer is None or (rows & ~self.outer).any():
            self.outer = rows
        fitted = self.reasoner.learn(y, self.outer)
        vectors = self.embed(fitted(np.ones(len(y), bool)).phrases)
        head = fit_head(VectorBlock("rationale", vectors), y, self.outer, fold)
        return LearnedReasons(fitted, self.embed, head, estimate=True)


def arms(stays: Sequence[Stay], y: Floats, cache: Path) -> dict[str, Arm]:
    """The cohort of each arm and the first stages beside it: the same rows and outcomes."""
    cohorts = notes_fusion.arms(stays, y, cache)
    structured, notes, fused = cohorts["structured"], cohorts["notes"], cohorts["fused"]
    evidence = cohorts["fused, evidence"].blocks[1]
    encoder = Remembering(cache)
    embed = PhraseVectors(encoder.encode, encoder.dimensions)
    reasoner = Remembered(NoteReasoner(notes.names, notes.x, labels_of(notes.names), notes.blocks[0].vectors))
    both = ReasonBlock(reasoner, embed)
    estimate, rationale = replace(both, rationale=False), replace(both, estimate=False)

    def with_evidence(cohort: Cohort) -> Cohort:
        return replace(cohort, blocks=(*cohort.blocks, evidence))

    return {
        "structured": (structured, ()),
        "structured, estimate": (structured, (estimate,)),
        "structured, rationale": (structured, (rationale,)),
        "structured, estimate, rationale": (structured, (both,)),
        "structured, estimate, rationale, evidence": (with_evidence(structured), (both,)),
        "structured, estimate, rationale, not cross-fitted": (structured, (InFold(reasoner, embed),)),
        "structured, notes": (fused, ()),
        "structured, notes, estimate": (fused, (estimate,)),
        "structured, notes, estimate, rationale": (fused, (both,)),
        "structured, notes, estimate, rationale, evidence": (with_evidence(fused), (both,)),
        "oracle": (cohorts["oracle"], ()),
    }


def gain(y: Floats, arm: Floats, over: Floats) -> dict[str, Any]:
    """Difference in AUROC, its interval by resampling patients in pairs."""

    def difference(weight: Floats | None) -> Floats:
        return np.array([auroc(y, arm, weight) - auroc(y, over, weight)])

    value, draws = resampled(y, difference)
    return with_interval(float(value[0]), draws[:, 0])


def run(stays: Sequence[Stay], y: Floats, cache: Path) -> dict[str, Any]:
    """Every arm out of fold, house by house, and what it gains over the one it builds on."""
    houses = np.array([house_of(stay.id) for stay in stays])
    ids = [stay.id for stay in stays]
    margins: dict[str, Floats] = {}
    chosen = arms(stays, y, cache)
    for name, (cohort, also) in chosen.items():
        say(f"{perf_counter():.0f} s: {name}")
        with threadpool_limits(1):
            margins[name] = held_out_margins(cohort, houses, PARAMETERS[IN_HOSPITAL_MORTALITY], also=also)
    say("bootstrapping")
    steps = [name for name in chosen if ", " in name]
    return {
        "arms": {name: measure(y, m, ids, metrics=SCORE_METRICS, bootstraps=BOOTSTRAPS) for name, m in margins.items()},
        "gain_over_structured": {name: gain(y, margins[name], margins["structured"]) for name in steps},
        "gain_over_the_arm_before": {
            name: gain(y, margins[name], margins[name.rpartition(", ")[0]])
            for name in steps
            if name.rpartition(", ")[0] in margins
        },
        "recovered": {name: recovered(y, margins, name) for name in steps},
    }


def main() -> None:
    data = Path(os.environ.get("RISKCARDS_DATA", readme.ROOT.parent / "shared" / "data")) / "cinc2012"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data, help="the folder of set-a.csv.gz and Outcomes-a.csv")
    parser.add_argument("--stays", type=int, help="only the first so many (default: all)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=readme.ROOT / "out" / "notes_fusion", help="vectors made once")
    options = parser.parse_args()
    stays, y = read(options.data, options.stays, say)
    result = {
        "stays": len(stays),
        "outcomes": int(y.sum()),
        "stage_1": "logistic regression over what notes say; reasons: its leading statements, embedded",
        "judged": "out of fold by patient and by house, first stages fitted anew for each fold",
        **run(stays, y, options.cache),
    }
    write(options.out, result)


def read(data: Path, most: int | None, tell: Callable[[str], None]) -> tuple[list[Stay], Floats]:
    """The first stays, through FHIR, their notes written and read; and who died."""
    outcomes = cinc_fhir.read_outcomes(data / "Outcomes-a.csv")
    raw = list(islice(cinc_fhir.read_stays(data / "set-a.csv.gz"), most))
    stays: list[Stay] = []
    with get_context("spawn").Pool(2, notes_fusion._open) as pool:
        for stay in pool.imap(prepared, raw, chunksize=20):
            stays.append(stay)
            if len(stays) % 200 == 0:
                tell(f"stays through FHIR, notes written and read: {len(stays)} of {len(raw)}")
    return stays, np.array([outcomes[stay.id]["In-hospital_death"] for stay in stays], dtype=np.float64)


if __name__ == "__main__":
    main()
