"""Extraction of relations between concepts: `python -m benchmarks.statements --data BC5CDR --collection CF --out DIR`.

First the rule extractor against BC5CDR's annotators (Li et al., Database 2016): chemical-induces-disease relations of
1,500 abstracts, by abstract, with the shipped vocabulary and with the installed lexicons. The annotators joined what an
abstract implies anywhere; the rules read one sentence at a time. With `--model NAME` a language model of this machine
reads the first `--limit` of the same abstracts, and the rules the same few beside it (`language_model`; its answers are
kept in `--out`, so that a run that was stopped goes on). Then whether such edges help retrieval: the graph of
the Cystic Fibrosis collection with and without them, same settings, paired by query.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.concept_linking import agreement
from benchmarks.cystic_fibrosis import prepared
from benchmarks.measuring import Remembering, write
from cds_service.commands.literature.index_triples import model_reading
from knowledge_index import Concept, KnowledgeIndex, build_index
from knowledge_index.graph import RuleTripleExtractor
from knowledge_index.graph.triples import TripleExtractor
from knowledge_index.retrieval import RetrievalScores, evaluate_retrieval
from knowledge_index.sources import collect_articles
from knowledge_index.sources.pubtator import Annotated, read_pubtator
from knowledge_index.vocabulary import Linker
from knowledge_index.vocabulary.lexicons import installed
from knowledge_index.vocabulary.vocabulary_files import from_lexicons

RESULT = Path(__file__).parent / "results" / "statements.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the PubTator files")
    parser.add_argument("--collection", type=Path, required=True, help="folder of the Cystic Fibrosis collection")
    parser.add_argument("--out", type=Path, required=True, help="where vectors and indexes are written")
    parser.add_argument("--model", help="a language model: smollm2, or a folder")
    parser.add_argument("--limit", type=int, default=20, help="abstracts the model reads")
    options = parser.parse_args()
    documents = [document for path in sorted(options.data.glob("*.pubtator*")) for document in read_pubtator(path)]
    vocabularies: dict[str, tuple[Concept, ...]] = {"shipped": ()}
    if installed():
        vocabularies["shipped and lexicons"] = from_lexicons()
    if options.model:
        written = json.loads(RESULT.read_text())
        write(RESULT, written | {"language_model": compared(options, documents, vocabularies)})
        return
    result = {
        "extraction": {name: extracted(Linker(extra), documents) for name, extra in vocabularies.items()},
        "retrieval": {name: retrieval(options, extra) for name, extra in vocabularies.items()},
    }
    write(RESULT, result)


def compared(
    options: argparse.Namespace, documents: list[Annotated], vocabularies: dict[str, tuple[Concept, ...]]
) -> dict[str, Any]:
    """The model and the rules on the same abstracts, each with the largest vocabulary there is."""
    few = documents[: options.limit]
    linker = Linker(list(vocabularies.values())[-1])
    read = model_reading(options.model, options.out / "answers")
    assert read.statements is not None
    started = time.process_time()
    model = extracted(linker, few, read.statements(linker))
    seconds = time.process_time() - started
    return {
        "model": options.model,
        "abstracts": len(few),
        "relations_annotated": sum(len(document.triples) for document in few),
        "processor_seconds_per_answer": seconds / asked if (asked := (read.counts or {}).get("answers", 0)) else None,
        "answers": dict(sorted((read.counts or {}).items())),
        "by_the_model": model,
        "by_rules": extracted(linker, few),
    }


def extracted(linker: Linker, documents: list[Annotated], reader: TripleExtractor | None = None) -> dict[str, float]:
    """Precision and recall of (chemical, disease) pairs said to be cause and effect."""
    reader = reader or RuleTripleExtractor(linker)
    annotated = [{(t.subject, t.object) for t in document.triples} for document in documents]
    seen = [
        {
            (t.subject, t.object)
            for t in reader.extract(d.article)
            if t.relation == "induces" and _chemical(linker, t.subject)
        }
        for d in documents
    ]
    return agreement(annotated, seen)


def _chemical(linker: Linker, ui: str) -> bool:
    return any(number.startswith("D") for number in linker.concepts[ui].tree_numbers)


def retrieval(options: argparse.Namespace, vocabulary: tuple[Concept, ...]) -> dict[str, object]:
    _, queries, qrels = prepared(options.collection, options.out)
    articles = collect_articles("jsonl", [options.out / "articles.jsonl"]).articles
    encoder = Remembering(options.out / "vectors")
    scores: dict[str, RetrievalScores] = {}
    for name, reader in (("without", None), ("with", RuleTripleExtractor)):
        build_index(articles, options.out / "statements", encoder, vocabulary=vocabulary, statements=reader)
        index = KnowledgeIndex.open(options.out / "statements", encoder)
        scores[name] = evaluate_retrieval(index, queries, qrels, ("graph",))["graph"]
    return {
        **{name: item.to_json() for name, item in scores.items()},
        "with_versus_without": scores["with"].versus(scores["without"])["ndcg@10"].to_json(),
    }


if __name__ == "__main__":
    main()
