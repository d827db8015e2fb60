"""Words to MeSH concepts, against annotators: `python -m benchmarks.concept_linking --data DIR [--mesh FILE]`.

DIR holds the BC5CDR corpus in PubTator format (`*.pubtator.gz`): 1,500 abstracts whose disease and chemical mentions
carry MeSH ids (Li et al., Database 2016). The linker reads the same texts with the shipped vocabulary, with the
installed lexicons added, and, given NLM's descriptor file, with all of MeSH. `mentions`: same place, same descriptor.
`documents`: the set of descriptors of an abstract, which is what retrieval and the graph use. What linking finds is
counted as a disease in branches C and F of MeSH and as a chemical in branch D; supplementary concepts (ids with C)
are in the annotations but in no descriptor file, and count as missed.

With `--charts DIR` (folders `synthea` and `mimic-iv-demo-fhir`), the share of conditions and medications whose codings
link to a concept, with the vocabulary alone and with the further tables of ICD and of names. Most that stay without
are no disease or drug ("received higher education"). `displays`: each annotated mention of BC5CDR alone, as a display
of an unknown system: of those that link, the share with the annotators' descriptor, and with it or one above or below
it in the tree.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.measuring import write
from knowledge_index import Concept
from knowledge_index.sources.pubtator import Annotated, read_pubtator
from knowledge_index.vocabulary import Linker
from knowledge_index.vocabulary.additional_names import NOTHING, shipped
from knowledge_index.vocabulary.lexicons import installed
from knowledge_index.vocabulary.vocabulary_files import from_lexicons, from_mesh, merged
from tools.derive_mesh_tree import rows

RESULT = Path(__file__).parent / "results" / "concept_linking.json"
BRANCHES = {"Disease": ("C", "F"), "Chemical": ("D",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the PubTator files")
    parser.add_argument("--mesh", type=Path, help="NLM's descriptor file, XML or ASCII")
    parser.add_argument("--names", type=Path, help="folder of MeSH names and tree numbers as tables, no entry terms")
    parser.add_argument("--charts", type=Path, help="folder of the development data's charts")
    parser.add_argument("--limit", type=int, help="read this many abstracts only")
    options = parser.parse_args()
    documents = [document for path in sorted(options.data.glob("*.pubtator*")) for document in read_pubtator(path)]
    documents = documents[: options.limit]
    vocabularies: dict[str, tuple[Concept, ...]] = {"shipped": ()}
    if installed():
        vocabularies["shipped and lexicons"] = from_lexicons()
    if options.mesh:
        vocabularies["shipped and MeSH"] = from_mesh(options.mesh)
    if options.names:
        vocabularies["shipped, lexicons and MeSH names"] = merged((*from_tables(options.names), *from_lexicons()))
    result: dict[str, Any] = {
        "corpus": "BC5CDR, all abstracts" if options.limit is None else f"BC5CDR, first {options.limit}",
        "abstracts": len(documents),
        "vocabularies": {name: measured(Linker(extra), documents) for name, extra in vocabularies.items()},
    }
    linkers = {"vocabulary": Linker(further=NOTHING), "and further tables": Linker()}
    result["displays"] = {name: displays(linker, documents) for name, linker in linkers.items()}
    if options.charts:
        result["charts"] = {name: coverage(linker, options.charts) for name, linker in linkers.items()}
    write(RESULT, result)


def displays(linker: Linker, documents: Iterable[Annotated]) -> dict[str, float]:
    """Mentions taken out of their text, each once with each of its meanings."""
    annotated = {(a.mention, a.ids) for document in documents for a in document.annotations if a.ids}
    given = right = near = 0
    for mention, ids in sorted(annotated):
        found = [item.concept for item in linker.link_codes([(None, "", mention)])]
        if not found:
            continue
        given += 1
        right += any(concept.ui in ids for concept in found)
        wanted = [number for ui in ids for number in numbers_of(linker, ui)]
        near += any(concept.ui in ids or _related(concept.tree_numbers, wanted) for concept in found)
    return {
        "mentions": len(annotated),
        "linked": given / len(annotated),
        "right": right / given,
        "right_or_near": near / given,
    }


def numbers_of(linker: Linker, ui: str) -> tuple[str, ...]:
    known = linker.concepts.get(ui) or shipped().concept(ui)
    return known.tree_numbers if known else ()


def _related(some: Iterable[str], others: Sequence[str]) -> bool:
    return any(f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.") for a in some for b in others)


def coverage(linker: Linker, folder: Path) -> dict[str, dict[str, float]]:
    """Of the records of each kind, and of the different ones among them, the share that links to a concept."""
    counted: dict[str, Counter[tuple[tuple[str | None, str, str | None], ...]]] = {}
    for kind, codings in charted(folder):
        counted.setdefault(kind, Counter())[codings] += 1
    out: dict[str, dict[str, float]] = {}
    for kind, records in counted.items():
        linked = {codings: bool(linker.link_codes(codings)) for codings in records}
        out[kind] = {
            "records": records.total(),
            "linked": sum(count for codings, count in records.items() if linked[codings]) / records.total(),
            "different": len(records),
            "different_linked": sum(linked.values()) / len(records),
        }
    return out


def charted(folder: Path) -> Iterator[tuple[str, tuple[tuple[str | None, str, str | None], ...]]]:
    """(kind, codings) of every condition and medication of the charts."""
    for path in sorted(folder.glob("synthea/*/*.json.gz")):
        for entry in orjson.loads(gzip.decompress(path.read_bytes()))["entry"]:
            yield from _codings("Synthea", entry["resource"])
    for path in sorted((folder / "mimic-iv-demo-fhir").glob("Mimic*.ndjson.gz")):
        if path.name.startswith(("MimicCondition", "MimicMedicationRequest", "MimicMedicationDispense.")):
            with gzip.open(path) as stream:
                yield from (item for line in stream for item in _codings("MIMIC", orjson.loads(line)))


def _codings(source: str, resource: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    kind = resource["resourceType"]
    if kind not in ("Condition", "MedicationRequest", "MedicationDispense"):
        return
    concept = resource.get("code" if kind == "Condition" else "medicationCodeableConcept", {})
    if concept.get("coding"):
        codings = (((c.get("system"), c.get("code", ""), c.get("display"))) for c in concept["coding"])
        yield f"{source} {kind}", tuple(codings)


def from_tables(folder: Path) -> Iterator[Concept]:
    """MeSH descriptors from `terms.tsv.gz` and `tree-numbers.tsv.gz`: what NLM's file holds, less its entry terms."""
    numbers: dict[str, list[str]] = {}
    for row in rows(folder / "tree-numbers.tsv.gz"):
        numbers.setdefault(row["mesh_id"], []).append(row["mesh_tree_number"])
    for row in rows(folder / "terms.tsv.gz"):
        here = tuple(numbers.get(row["mesh_id"], ()))
        if any(number.startswith(("C", "D", "F")) for number in here):
            yield Concept(row["mesh_id"], row["mesh_name"], here)


def measured(linker: Linker, documents: list[Annotated]) -> dict[str, Any]:
    started = time.perf_counter()
    found = [list(_linked(linker, document)) for document in documents]
    seconds = time.perf_counter() - started
    out: dict[str, Any] = {"concepts": len(linker.concepts), "abstracts_per_second": round(len(documents) / seconds)}
    for kind in BRANCHES:
        annotated = [
            {(a.start, a.end, ui) for a in document.annotations if a.kind == kind for ui in a.ids}
            for document in documents
        ]
        seen = [{item[:3] for item in items if item[3] == kind} for items in found]
        out[kind] = {
            "mentions": agreement(annotated, seen),
            "documents": agreement(_concepts(annotated), _concepts(seen)),
        }
    return out


def _linked(linker: Linker, document: Annotated) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, descriptor, kind) of what the linker finds, negated mentions included: they are mentions too."""
    for item in linker.link_text(document.text):
        assert item.start is not None
        assert item.end is not None
        for kind, branches in BRANCHES.items():
            if any(number.startswith(branches) for number in item.concept.tree_numbers):
                yield item.start, item.end, item.concept.ui, kind


def _concepts(mentions: Iterable[set[tuple[int, int, str]]]) -> list[set[str]]:
    return [{ui for _, _, ui in items} for items in mentions]


def agreement(annotated: Iterable[set[Any]], seen: Iterable[set[Any]]) -> dict[str, float]:
    """Precision, recall and their harmonic mean over all documents together."""
    right = wanted = given = 0
    for one, other in zip(annotated, seen, strict=True):
        right, wanted, given = right + len(one & other), wanted + len(one), given + len(other)
    precision, recall = right / max(given, 1), right / max(wanted, 1)
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-9)}


if __name__ == "__main__":
    main()
