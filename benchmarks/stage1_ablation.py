"""Gain of each part of stage 1 for stage 2: its estimate, its reasons, the notes themselves, the literature.

    python -m benchmarks.stage1_ablation [--stays N] --out benchmarks/results/stage1_ablation.json
    python -m benchmarks.stage1_ablation --stays 800 --reader smollm2@bfloat16 [--tune 480] --out ...
    python -m benchmarks.stage1_ablation --stays 400 --reader FILE.gguf --threads 2 [--evidence] [--windows 4] --out ...

Stays, notes, styles and outcomes are those of `notes_fusion`: what moved into notes is not in the structured record.
Stage 1 is a logistic regression over what the notes say (`language.note_reasoner.NoteReasoner`), fitted anew for every
fold; its reasons are the statements that weigh most, embedded. Arms are evaluated out of fold by patient and style.
One arm breaks the rule on purpose: its stage 1 answers for patients it learned from.

With `--reader` a language model is the first stage beside that one, on the same stays. For a level of risk and a reason
it is asked about the first of the windows that it would be asked about in service (`asked_windows`), or the first
`--windows`: the newest notes, as many as fit; with `--evidence` the patient's problems and literature about them stand
beside each. With `--tune N` it is tuned first, on N windows of later stays
(`stage1_tuning`). A run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
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
from benchmarks.note_writing import writing_style_of
from benchmarks.notes_fusion import FusionStay, prepared, recovered
from benchmarks.outcome import say
from benchmarks.reduced_reasons import ReducedReasons
from benchmarks.resampling import BOOTSTRAPS, Floats, resampled, with_interval
from benchmarks.stage1_tuning import tuned
from knowledge_index import KnowledgeIndex
from risk_model import IN_HOSPITAL_MORTALITY
from risk_model.evaluation import measure
from risk_model.evaluation.metrics import SCORE_METRICS, auroc
from risk_model.first_stage import ask_about_patients
from risk_model.first_stage.fusion import Block, Learned, VectorBlock, fit_head
from risk_model.first_stage.note_reasoner import NoteReasoner, labels_of
from risk_model.first_stage.patient_opinions import put_together
from risk_model.first_stage.prompt_knowledge import with_knowledge
from risk_model.first_stage.rationale import (
    Embed,
    Fitted,
    Frozen,
    LearnedReasons,
    PhraseVectors,
    ReasonBlock,
    Reasoner,
    Rows,
)
from risk_model.first_stage.training_rows import TrainingRows
from risk_model.llm import ReaderName, language_model
from risk_model.llm_tuning import learned_from
from risk_model.prompts.answers import RISK_LEVELS
from risk_model.prompts.note_prompt import Window
from risk_model.prompts.opinion import Opinions
from risk_model.training.gradient_boosting import PARAMETERS, held_out_margins

Arm = tuple[TrainingRows, tuple[Block, ...]]


@dataclass
class CachedReasoner:
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


def arms(stays: Sequence[FusionStay], y: Floats, cache: Path) -> dict[str, Arm]:
    """The cohort of each arm and the first stages beside it: the same rows and outcomes."""
    cohorts = notes_fusion.arms(stays, y, cache)
    structured, notes, fused = cohorts["structured"], cohorts["notes"], cohorts["fused"]
    evidence = cohorts["fused, evidence"].blocks[1]
    encoder = Remembering(cache)
    embed = PhraseVectors(encoder.encode, encoder.dimensions)
    reasoner = CachedReasoner(NoteReasoner(notes.names, notes.x, labels_of(notes.names), notes.blocks[0].vectors))
    both = ReasonBlock(reasoner, embed)
    estimate, rationale = replace(both, rationale=False), replace(both, estimate=False)

    def with_evidence(cohort: TrainingRows) -> TrainingRows:
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


HEADS: Mapping[str, tuple[str, bool]] = {
    "xgboost": ("xgboost", False),
    "xgboost, class weights": ("xgboost", True),
    "balanced random forest": ("balanced-random-forest", False),
}
"""Heads of stage 2: the learner, and whether rows with the outcome weigh as much together as those without."""


def arms_with(opinions: Sequence[Opinions], stays: Sequence[FusionStay], y: Floats, cache: Path) -> dict[str, Arm]:
    """The arms of a language model as the first stage, beside those of the cheap one on the same stays."""
    known = arms(stays, y, cache)
    structured = known["structured"][0]
    encoder = Remembering(cache)
    embed, said = PhraseVectors(encoder.encode, encoder.dimensions), Frozen(put_together(opinions))
    both, reduced = ReasonBlock(said, embed), ReducedReasons(said, embed)
    notes = known["structured, notes"][0]
    return {
        "structured": known["structured"],
        "structured, estimate": known["structured, estimate"],
        "structured, estimate, rationale": known["structured, estimate, rationale"],
        "structured, estimate by the language model": (structured, (replace(both, rationale=False),)),
        "structured, rationale by the language model": (structured, (replace(both, estimate=False),)),
        "structured, estimate and rationale by the language model": (structured, (both,)),
        "structured, estimate and reduced rationale by the language model": (structured, (reduced,)),
        "structured, notes": known["structured, notes"],
        "structured, notes, estimate and reduced rationale by the language model": (notes, (reduced,)),
        "oracle": known["oracle"],
    }


def asked(
    reader: str, patients: Sequence[Sequence[Window]], kept: Path, threads: int | None = None
) -> tuple[list[Opinions], float]:
    """What a language model thinks of each stay's notes, and the seconds of this run; outcomes are not at hand."""
    model = language_model(ReaderName.of(reader), threads=threads)
    begun = perf_counter()

    def report(done: int, every: int) -> None:
        if done % 10 and done < every:
            return
        say(f"{perf_counter() - begun:.0f} s: {done} of {every} windows answered")

    return ask_about_patients(model, patients, IN_HOSPITAL_MORTALITY, kept, report), perf_counter() - begun


def shown(stays: Sequence[FusionStay], most: int, evidence: bool) -> list[tuple[Window, ...]]:
    """The windows of each stay that the model is asked about, with `evidence` what is known beside each."""
    first = [tuple(stay.windows[:most]) for stay in stays]
    if not evidence:
        return first
    index = KnowledgeIndex.open_starter()
    return [with_knowledge(windows, index, IN_HOSPITAL_MORTALITY) for windows in first]


def alone(opinions: Sequence[Opinions], ids: Sequence[str], y: Floats) -> dict[str, Any]:
    """The language model by itself: how its number ranks the stays, and how often each level was said."""
    logit = put_together(opinions).logit
    every = [opinion for patient in opinions for opinion in patient.said]
    return {
        "levels": {level: sum(opinion.level == level for opinion in every) for level in RISK_LEVELS},
        "reasons": sum(bool(opinion.reason) for opinion in every),
        "reasons_not_in_the_note": sum(opinion.dropped for opinion in every),
        **measure(y, logit, ids, metrics=SCORE_METRICS, bootstraps=BOOTSTRAPS),
    }


def gain(y: Floats, arm: Floats, over: Floats) -> dict[str, Any]:
    """Difference in AUROC, its interval by resampling patients in pairs."""

    def difference(weight: Floats | None) -> Floats:
        return np.array([auroc(y, arm, weight) - auroc(y, over, weight)])

    value, draws = resampled(y, difference)
    return with_interval(float(value[0]), draws[:, 0])


def run(
    stays: Sequence[FusionStay], y: Floats, chosen: Mapping[str, Arm], shares: bool = True, head: str = "xgboost"
) -> dict[str, Any]:
    """Every arm out of fold, style by style, and what it gains over the one it builds on."""
    learner, weighted = HEADS[head]
    parameters = dict(PARAMETERS[IN_HOSPITAL_MORTALITY])
    if weighted:
        parameters["scale_pos_weight"] = float((1 - y).sum() / y.sum())
    styles = np.array([writing_style_of(stay.id) for stay in stays])
    ids = [stay.id for stay in stays]
    margins: dict[str, Floats] = {}
    for name, (cohort, also) in chosen.items():
        say(f"{perf_counter():.0f} s: {name}")
        with threadpool_limits(1):
            margins[name] = held_out_margins(cohort, styles, parameters, also=also, learner=learner)
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
        # Of few stays some resamples have an oracle that gains nothing: no share can be computed for them.
        **({"recovered": {name: recovered(y, margins, name) for name in steps}} if shares else {}),
    }


def main() -> None:
    data = Path(os.environ.get("RISKCARDS_DATA", readme.ROOT.parent / "shared" / "data")) / "cinc2012"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data, help="the folder of set-a.csv.gz and Outcomes-a.csv")
    parser.add_argument("--stays", type=int, help="only the first so many (default: all)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=readme.ROOT / "out" / "notes_fusion", help="vectors made once")
    parser.add_argument("--reader", help="a language model as the first stage: smollm2, FOLDER+ADAPTER@bfloat16")
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=["xgboost"], help="of stage 2")
    parser.add_argument("--windows", type=int, default=1, help="of a stay, that the language model is asked about")
    parser.add_argument("--evidence", action="store_true", help="show it problems and literature beside each window")
    parser.add_argument("--threads", type=int, help="of llama.cpp, for a GGUF file  [default: one for each core]")
    parser.add_argument("--tune", type=int, help="tune it first, on so many windows of stays after those evaluated")
    parser.add_argument("--minutes", type=float, default=1e9, help="end tuning early, with the best adapter so far")
    options = parser.parse_args()
    stays, y = read(options.data, options.stays, say)
    if options.reader is not None:
        write(options.out, by_reader(options, stays, y))
        return
    result = {
        "stays": len(stays),
        "outcomes": int(y.sum()),
        "stage_1": "logistic regression over what notes say; reasons: its leading statements, embedded",
        "judged": "out of fold by patient and by house, first stages fitted anew for each fold",
        **run(stays, y, arms(stays, y, options.cache)),
    }
    write(options.out, result)


def by_reader(options: argparse.Namespace, stays: Sequence[FusionStay], y: Floats) -> dict[str, Any]:
    """The arms of a language model, as it comes or tuned on other stays."""
    reader, ids, fitting = options.reader, [stay.id for stay in stays], None
    if options.tune is not None:
        name, adapter = ReaderName.of(reader), options.cache / f"adapter-{options.tune}-after-{len(stays)}"
        manifest = tuned(reader, options.data, len(stays), options.tune, adapter, options.minutes)
        assert not learned_from(manifest, ids).any(), "tuned on stays that are evaluated"
        reader = f"{name.model}+{adapter}@{name.precision}"
        fitting = {key: manifest[key] for key in ("data", "settings", "metrics")} | {
            key: value for key, value in manifest["outcome_tuning"].items() if key != "patients"
        }
    kept = options.cache / f"opinions-{sha256(reader.encode()).hexdigest()[:12]}.jsonl"
    patients = shown(stays, options.windows, options.evidence)
    opinions, seconds = asked(reader, patients, kept, options.threads)
    chosen = arms_with(opinions, stays, y, options.cache)
    first, *others = options.heads
    return {
        "stays": len(stays),
        "outcomes": int(y.sum()),
        "stage_1": f"{options.reader}: a level of risk and a reason for the newest notes of a stay, as many as fit",
        "tuned_on": fitting,
        "windows_of_a_stay": options.windows,
        "evidence": options.evidence,
        "seconds_of_the_last_run": round(seconds),
        "load_at_the_end": os.getloadavg()[0],
        "alone": alone(opinions, ids, y),
        "head": first,
        **run(stays, y, chosen, shares=False, head=first),
        "other_heads": {head: run(stays, y, chosen, shares=False, head=head) for head in others},
    }


def read(data: Path, most: int | None, report: Callable[[str], None]) -> tuple[list[FusionStay], Floats]:
    """The first stays, through FHIR, their notes written and read; and which patients died."""
    outcomes = cinc_fhir.read_outcomes(data / "Outcomes-a.csv")
    raw = list(islice(cinc_fhir.read_stays(data / "set-a.csv.gz"), most))
    stays: list[FusionStay] = []
    with get_context("spawn").Pool(2, notes_fusion._open) as pool:
        for stay in pool.imap(prepared, raw, chunksize=20):
            stays.append(stay)
            if len(stays) % 200 == 0:
                report(f"stays through FHIR, notes written and read: {len(stays)} of {len(raw)}")
    return stays, np.array([outcomes[stay.id]["In-hospital_death"] for stay in stays], dtype=np.float64)


if __name__ == "__main__":
    main()
