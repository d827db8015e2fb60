"""Builds `tree.json`: `python -m tools.derive_mesh_tree MESH_FOLDER`.

MESH_FOLDER holds `terms.tsv.gz` (mesh_id, mesh_name) and `tree-numbers.tsv.gz` (mesh_id, mesh_name, mesh_tree_number),
NLM's descriptors as tables. Only descriptors in use are written: those of the vocabulary, of the starter articles, of
the risk factors, and those in the file already (indexes of hospitals may have come to use them). Names and descriptor
ids in `concepts.json` are first compared with the tables; a mismatch stops the run.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import orjson

PACKAGE = Path(__file__).parents[1] / "knowledge_index"
VOCABULARY = PACKAGE / "vocabulary"


def rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        yield from csv.DictReader(stream, delimiter="\t")


def used() -> dict[str, str]:
    """Descriptor id -> name, of the vocabulary and the starter articles' headings."""
    found = {item["ui"]: item["name"] for item in orjson.loads((VOCABULARY / "concepts.json").read_bytes())}
    for path in sorted((PACKAGE / "starter" / "articles").glob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            found.update((item["ui"], item["name"]) for item in orjson.loads(line)["mesh"] if item.get("ui"))
    return found


def main(folder: Path) -> str:
    official = {row["mesh_id"]: row["mesh_name"] for row in rows(folder / "terms.tsv.gz")}
    names = used()
    tree = VOCABULARY / "tree.json"
    listed = orjson.loads((VOCABULARY / "risk_factors.json").read_bytes())
    factors = {heading for factor in listed for heading in factor["headings"]}
    kept = set(orjson.loads(tree.read_bytes())) if tree.exists() else set()
    names |= {ui: name for ui, name in official.items() if ui in kept or name in factors}
    wrong = [f"{ui} {name}: {official.get(ui)}" for ui, name in names.items() if official.get(ui) != name]
    if wrong:
        return "names that differ from MeSH:\n" + "\n".join(sorted(wrong))
    numbers: dict[str, list[str]] = defaultdict(list)
    for row in rows(folder / "tree-numbers.tsv.gz"):
        if row["mesh_id"] in names:
            numbers[row["mesh_id"]].append(row["mesh_tree_number"])
    lines = (f"{orjson.dumps(ui).decode()}: {orjson.dumps(sorted(numbers[ui])).decode()}" for ui in sorted(names))
    tree.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return ""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
