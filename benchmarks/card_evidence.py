"""Whether the literature that is shown is about the factor and the outcome: `python -m benchmarks.card_evidence`.

Three measurements on the starter evidence base:

- all pairs: every factor with every outcome, and every input of the shipped models with its outcome, for a patient of
  whom nothing else is known. Each article is compared with its committed entry, which says what it is about.
- the golden examples (`examples/`): each card's articles, and the articles of each of its drivers.
- judgements (`card_evidence_judgements.tsv`): each article of the golden cards was read by title, finding and design as
  a clinician would: is it about this factor and this outcome in this kind of patient? The run ends with an error if an
  article has no judgement.

With `--data` (the development data folder) also its patients: each driver of every 40th stay of CinC
2012 set A and of every 300th encounter of Diabetes 130, and which of the latter's 40 commonest principal diagnoses have
an article.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import cinc_fhir, diabetes_fhir
from benchmarks.measuring import write
from fhir_mapping import PatientRecord
from knowledge_index import Evidence, KnowledgeIndex, Outcome
from knowledge_index.indexing import starter_articles
from knowledge_index.vocabulary import OUTCOMES, factor_of_heading, factors
from risk_model import Assessment, Pipeline
from risk_model.features import concept_of
from risk_model.notes.literature import factor_of

HERE = Path(__file__).parent
RESULT = HERE / "results" / "card_evidence.json"
JUDGEMENTS = HERE / "card_evidence_judgements.tsv"
ADMISSIONS = HERE / "card_evidence_admissions.tsv"
EXAMPLES = HERE.parent / "examples"
TASKS = {"in_hospital_mortality": "mortality", "readmission_30d": "readmission"}


@dataclass(frozen=True, slots=True)
class Shown:
    """An article as it is shown: the names of the factors it may be about, and of the outcome."""

    factors: frozenset[str]
    outcome: str
    item: Evidence


class Checked:
    """Compares shown articles with the committed entries of the starter base."""

    def __init__(self) -> None:
        self._entries = starter_articles().articles
        self.shown, self.matching = 0, 0
        self.wrong: list[str] = []

    def add(self, shown: Iterable[Shown]) -> None:
        for one in shown:
            entry = self._entries[one.item.pmid]
            right = not one.factors.isdisjoint(entry.factors) and one.outcome in entry.outcomes
            self.shown, self.matching = self.shown + 1, self.matching + right
            if not right:
                self.wrong.append(f"PMID {one.item.pmid} for {sorted(one.factors)} and {one.outcome}")

    def result(self) -> dict[str, Any]:
        share = self.matching / self.shown if self.shown else None
        return {"shown": self.shown, "matching": self.matching, "share": share, "wrong": self.wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the development data folder")
    parser.add_argument("--out", type=Path, default=RESULT)
    chosen = parser.parse_args()
    pipeline = Pipeline.shipped()
    cards = list(golden(pipeline))
    result = {
        "articles": len(pipeline.index),
        "pairs": all_pairs(pipeline),
        "model_inputs": {task: inputs(pipeline, task) for task in TASKS},
        "golden": golden_figures(pipeline, cards),
        "judgements": judgements(cards),
    }
    if chosen.data is not None:
        table = chosen.data / "diabetes-130" / "encounters.csv.gz"
        patients = {
            "cinc2012": of_drivers(pipeline, stays(pipeline, chosen.data / "cinc2012" / "set-a.csv.gz")),
            "diabetes130": of_drivers(pipeline, encounters(pipeline, table)),
        }
        drivers = sum(found["drivers"] for found in patients.values())
        without = sum(sum(found["without_article"].values()) for found in patients.values())
        result["patients"] = {"share_of_drivers_with_article": 1 - without / drivers, **patients}
        result["admission_diagnoses"] = admissions(pipeline, table)
    write(chosen.out, result)
    if result["judgements"]["without_judgement"]:
        sys.exit("articles without a judgement: read them and add them to card_evidence_judgements.tsv")


def all_pairs(pipeline: Pipeline) -> dict[str, Any]:
    """Every factor with every outcome, the patient unknown."""
    checked = Checked()
    without: dict[str, list[str]] = {name: [] for name in OUTCOMES}
    for outcome in OUTCOMES.values():
        for factor in factors().values():
            found = pipeline.index.retrieve(pipeline.index.question(factor, outcome), 24).evidence
            checked.add(Shown(frozenset({factor.name}), outcome.name, item) for item in found)
            if not found:
                without[outcome.name].append(factor.name)
    return {"pairs": len(factors()) * len(OUTCOMES), **checked.result(), "without_article": without}


def inputs(pipeline: Pipeline, task: str) -> dict[str, Any]:
    """Every input of a shipped model, the patient unknown."""
    concepts = tuple(dict.fromkeys(concept_of(name) for name in pipeline.models[task].names))
    without = [concept for concept in concepts if not pipeline.evidence_on(concept, task)]
    return {"inputs": len(concepts), "share_with_article": 1 - len(without) / len(concepts), "without_article": without}


def golden(pipeline: Pipeline) -> Iterator[tuple[str, Assessment]]:
    """The assessments behind each golden answer, by example and task; an example that is answered with an error has
    none."""
    for path in sorted(EXAMPLES.glob("*/request.json")):
        if json.loads(path.with_name("expected.json").read_text("utf-8"))["status"] != 200:
            continue
        context = json.loads(path.read_text("utf-8"))["context"]
        raw = path.with_name("bundle.json").read_bytes()
        record = PatientRecord.from_json(raw, context["patientId"], encounter_id=context.get("encounterId"))
        for task in TASKS:
            yield path.parent.name, pipeline.assess(record, task)


def stays(pipeline: Pipeline, path: Path) -> Iterator[tuple[str, Assessment]]:
    """Every 40th stay, as of its newest resource, for death in hospital."""
    for stay in islice(cinc_fhir.read_stays(path), 0, None, 40):
        record = PatientRecord.from_resources(cinc_fhir.to_fhir(stay))
        yield stay.record_id, pipeline.assess(record, "in_hospital_mortality")


def encounters(pipeline: Pipeline, path: Path) -> Iterator[tuple[str, Assessment]]:
    """Every 300th encounter that can be followed by another, at discharge, for readmission."""
    for admission in islice(diabetes_fhir.read_admissions(path), 0, None, 300):
        if diabetes_fhir.eligible(admission.row):
            resources = diabetes_fhir.to_fhir(admission.row, admission.earlier)
            record = PatientRecord.from_resources(resources, prediction_time=diabetes_fhir.DISCHARGE)
            yield admission.row["encounter_id"], pipeline.assess(record, "readmission_30d")


def golden_figures(pipeline: Pipeline, cards: list[tuple[str, Assessment]]) -> dict[str, Any]:
    """Articles of the golden cards, and of each of their drivers."""
    checked = Checked()
    for _, assessment in cards:
        checked.add(of_card(assessment))
    return {"cards": checked.result(), "drivers": of_drivers(pipeline, cards)}


def of_drivers(pipeline: Pipeline, cards: Iterable[tuple[str, Assessment]]) -> dict[str, Any]:
    """Articles of each driver of these patients; `without_article` counts drivers by concept."""
    checked, patients, drivers, without = Checked(), 0, 0, Counter[str]()
    for _, assessment in cards:
        task = assessment.estimate.task
        patients += bool(assessment.estimate.drivers)
        for driver in assessment.estimate.drivers:
            subjects = pipeline.subjects_of(driver.concept, task, assessment.factors)
            names = frozenset(subject.factor.name for subject in subjects)
            found = pipeline.evidence_on(driver.concept, task, assessment.factors)
            checked.add(Shown(names, TASKS[task], item) for item in found)
            drivers += 1
            without.update([] if found else [driver.concept])
    share = 1 - without.total() / drivers if drivers else None
    return {
        "patients": patients,
        "drivers": drivers,
        "share_with_article": share,
        **checked.result(),
        "without_article": dict(without.most_common()),
    }


def of_card(assessment: Assessment) -> Iterator[Shown]:
    labels = {factor.label: factor.name for factor in factors().values()}
    for item in assessment.evidence:
        yield Shown(frozenset({labels.get(item.factor or "", "")}), TASKS[assessment.estimate.task], item)


def judgements(cards: list[tuple[str, Assessment]]) -> dict[str, Any]:
    """The judgements on every article of the golden cards."""
    with JUDGEMENTS.open(encoding="utf-8") as stream:
        read = list(csv.DictReader(stream, delimiter="\t"))
    known = {(row["case"], row["factor"], row["outcome"], row["pmid"]): row for row in read}
    rows, missing = [], []
    for name, assessment in cards:
        for item in assessment.evidence:
            key = (name, item.factor or "", item.outcome or "", item.pmid)
            row = known.get(key)
            if row is None:
                missing.append("\t".join((*key, item.title, item.study_type or "")))
            else:
                rows.append({**row, "title": item.title, "citation": item.citation, "design": item.study_type})
    verdicts = Counter(row["verdict"] for row in rows)
    share = verdicts["yes"] / len(rows) if rows else None
    return {
        "articles": len(rows),
        "verdicts": dict(verdicts),
        "share_yes": share,
        "without_judgement": missing,
        "read": rows,
    }


def admissions(pipeline: Pipeline, path: Path) -> dict[str, Any]:
    """The 40 commonest principal diagnoses (three digits of ICD-9-CM), each with the MeSH heading it is looked up by.

    The headings (`card_evidence_admissions.tsv`) name the disease that most stays under the code are about.
    """
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        counted = Counter(row["diag_1"].partition(".")[0].zfill(3) for row in csv.DictReader(stream))
    with ADMISSIONS.open(encoding="utf-8") as stream:
        headings = {row["icd9cm"]: row["heading"] for row in csv.DictReader(stream, delimiter="\t")}
    table = []
    for code, count in counted.most_common(40):
        heading = headings[code]
        found = {name: papers(pipeline.index, heading, outcome) for name, outcome in OUTCOMES.items()}
        table.append({"icd9cm": code, "encounters": count, "heading": heading, **found})
    with_any = sum(any(row[name] for name in OUTCOMES) for row in table)
    return {"diagnoses": len(table), "with_article": with_any, "table": table}


def papers(index: KnowledgeIndex, heading: str, outcome: Outcome) -> int:
    """The number of articles about the factor of a heading, as for a patient's diagnosis, and an outcome."""
    linked = next((item for item in index.link_text(heading) if item.concept.name == heading), None)
    factor = factor_of_heading(heading) or (factor_of(linked.concept, index) if linked else None)
    return 0 if factor is None else len(index.retrieve(index.question(factor, outcome), 24).evidence)


if __name__ == "__main__":
    main()
