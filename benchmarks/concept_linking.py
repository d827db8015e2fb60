"""Words to MeSH concepts, against annotators: `python -m benchmarks.concept_linking --data DIR [--mesh FILE]`.

DIR holds the BC5CDR corpus in PubTator format (`*.pubtator.gz`): 1,500 abstracts whose disease and chemical mentions
carry MeSH ids (Li et al., Database 2016). The linker reads the same texts with the shipped vocabulary, with the
installed lexicons added, and, given NLM's descriptor file, with all of MeSH. `mentions`: same place, same descriptor.
`documents`: the set of descriptors of an abstract, which is what retrieval and the graph use. What linking finds is
counted as a disease in branches C and F of MeSH and as a chemical in branch D; supplementary concepts (ids with C)
are in the annotations but in no descriptor file, and count as missed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import write
from knowledge_index.linking import Linker
from knowledge_index.pubtator import Annotated, read_pubtator
from knowledge_index.values import Concept
from knowledge_index.vocabulary.__main__ import rows
from knowledge_index.vocabulary.compiled import from_lexicons, from_mesh, merged
from knowledge_index.vocabulary.lexicons import installed

RESULT = Path(__file__).parent / "results" / "concept_linking.json"
BRANCHES = {"Disease": ("C", "F"), "Chemical": ("D",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the PubTator files")
    parser.add_argument("--mesh", type=Path, help="NLM's descriptor file, XML or ASCII")
    parser.add_argument("--names", type=Path, help="folder of MeSH names and tree numbers as tables, no entry terms")
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
    write(RESULT, result)


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
        told = [
            {(a.start, a.end, ui) for a in document.annotations if a.kind == kind for ui in a.ids}
            for document in documents
        ]
        seen = [{item[:3] for item in items if item[3] == kind} for items in found]
        out[kind] = {
            "mentions": agreement(told, seen),
            "documents": agreement(_concepts(told), _concepts(seen)),
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


def agreement(told: Iterable[set[Any]], seen: Iterable[set[Any]]) -> dict[str, float]:
    """Precision, recall and their harmonic mean over all documents together."""
    right = wanted = given = 0
    for one, other in zip(told, seen, strict=True):
        right, wanted, given = right + len(one & other), wanted + len(one), given + len(other)
    precision, recall = right / max(given, 1), right / max(wanted, 1)
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-9)}


if __name__ == "__main__":
    main()
