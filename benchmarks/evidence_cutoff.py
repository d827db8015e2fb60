"""The score below which evidence is withheld: `python -m benchmarks.evidence_cutoff --data ori_pqal.json.gz`.

The data are PubMedQA's labelled set.

Each of 1,000 questions has one right text: the conclusion its authors wrote (a sentence or two, like a finding of the
starter base), and its abstract. For a cut-off on the cosine, and on the share of the question's words that are covered,
the table says how many right texts it keeps and what share of all other texts it lets through. The cut-offs in
`knowledge_index/retrieval/ranking.py` were read off this table: they keep at least nine right conclusions in ten by
cosine while letting through about one unrelated text in two hundred.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from knowledge_index import MiniLMEncoder
from knowledge_index.encoders import available_threads
from knowledge_index.search.bm25 import Bm25

RESULT = Path(__file__).parent / "results" / "evidence_cutoff.json"
COSINES, COVERAGES = (0.25, 0.30, 0.35, 0.40, 0.45, 0.50), (0.3, 0.4, 0.5, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ori_pqal.json.gz")
    records = list(orjson.loads(gzip.decompress(parser.parse_args().data.read_bytes())).values())
    encoder = MiniLMEncoder(threads=available_threads())
    questions = [record["QUESTION"] for record in records]
    asked = encoder.encode(questions)
    result: dict[str, Any] = {"questions": len(questions)}
    for name, texts in (
        ("conclusions", [record["LONG_ANSWER"] for record in records]),
        ("abstracts", [" ".join(record["CONTEXTS"]) for record in records]),
    ):
        bm25 = Bm25.build(texts)
        coverage = np.stack([bm25.scores(question)[1] for question in questions])
        result[name] = {
            "cosine": table(asked @ encoder.encode(texts).T, COSINES),
            "coverage": table(coverage, COVERAGES),
        }
    text = orjson.dumps(result, option=orjson.OPT_INDENT_2)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_bytes(text + b"\n")
    print(text.decode())


def table(scores: NDArray[np.float32], cutoffs: tuple[float, ...]) -> dict[str, dict[str, float]]:
    """`scores` of shape (questions, texts); the right text of each question stands on the diagonal."""
    right = np.eye(len(scores), dtype=bool)
    return {
        f"{cutoff:.2f}": {
            "right_kept": round(float((scores[right] >= cutoff).mean()), 4),
            "others_let_through": round(float((scores[~right] >= cutoff).mean()), 5),
        }
        for cutoff in cutoffs
    }


if __name__ == "__main__":
    main()
