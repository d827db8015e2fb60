"""`python -m benchmarks`: every benchmark that runs on what is here, one after the other, then the README's figures.

Results go to `benchmarks/results/`. The outcome and retrieval benchmarks need the development data folder
(`RISKCARDS_DATA`, default `../shared/data`); without it they are skipped with a message. `--only NAME` runs one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import readme

RESULTS = readme.RESULTS
SCRATCH = readme.ROOT / "out"


def commands(data: Path) -> dict[str, tuple[Path | None, list[str]]]:
    """Name -> (what it reads of the data folder, its arguments)."""
    cinc, diabetes = data / "cinc2012", data / "diabetes-130" / "encounters.csv.gz"
    outcomes = [str(cinc / "set-a.csv.gz"), str(cinc / "Outcomes-a.csv")]
    fibrosis, questions = data / "pubmed" / "cystic-fibrosis", data / "pubmed" / "pubmedqa" / "ori_pqal.json.gz"
    reviews, marked = data / "pubmed" / "drug-class-reviews.jsonl.gz", data / "pubmed" / "bc5cdr"
    return {
        "cinc2012": (cinc, ["--train", *outcomes, "--out", str(RESULTS / "cinc2012")]),
        "notes_fusion": (
            cinc,
            ["--data", str(cinc), "--stays", "2000", "--out", str(RESULTS / "notes_fusion.json")],
        ),
        "stage1_ablation": (
            cinc,
            ["--data", str(cinc), "--stays", "800", "--out", str(RESULTS / "stage1_ablation.json")],
        ),
        "note_rules": (None, ["--out", str(SCRATCH / "note_rules.json")]),
        "reader_speed": (None, []),
        "reader_tuning": (None, ["--train", "280", "--out", str(RESULTS / "reader_tuning.json")]),
        "diabetes130": (diabetes, ["--train", str(diabetes), "--out", str(RESULTS / "diabetes130")]),
        "distribution_shift": (cinc, ["--data", str(data)]),
        "cystic_fibrosis": (fibrosis, ["--data", str(fibrosis), "--out", str(SCRATCH / "cystic_fibrosis")]),
        "rubric": (cinc, ["--data", str(cinc)]),
        "encoders": (fibrosis, ["--data", str(fibrosis), "--out", str(SCRATCH / "encoders")]),
        "ehr_encoders": (cinc, ["--data", str(data), "--out", str(SCRATCH / "ehr_encoders")]),
        "retrieval_settings": (fibrosis, ["--data", str(fibrosis), "--out", str(SCRATCH / "cystic_fibrosis")]),
        "communities": (fibrosis, ["--data", str(fibrosis), "--out", str(SCRATCH / "cystic_fibrosis")]),
        "index_growth": (None, []),
        "known_item": (questions, ["--data", str(questions), "--out", str(SCRATCH / "known_item")]),
        "drug_reviews": (reviews, ["--data", str(reviews), "--out", str(SCRATCH / "drug_reviews")]),
        "concept_linking": (marked, ["--data", str(marked)]),
        "statements": (
            marked,
            ["--data", str(marked), "--collection", str(fibrosis), "--out", str(SCRATCH / "cystic_fibrosis")],
        ),
        "patient_queries": (None, ["--out", str(SCRATCH / "patient_queries")]),
        "graph_step": (None, []),
        "vector_scale": (None, ["--n", "200000"]),
        "index_open": (None, ["--articles", "200000"]),
        "card_evidence": (cinc, ["--data", str(data)]),
        "evidence_cutoff": (questions, ["--data", str(questions)]),
        "mapping": (data / "synthea", ["--data", str(data / "synthea")]),
        "population": (None, []),
        "hook_latency": (None, []),
        "first_paint": (None, []),
        "serving": (None, []),
        "wsgi_servers": (None, []),
        "large_bodies": (None, []),
        "fuzz": (None, []),
    }


def main() -> int:
    """Exit code 1 when a benchmark failed; those that lack their data are passed over."""
    data = Path(os.environ.get("RISKCARDS_DATA", readme.ROOT.parent / "shared" / "data"))
    known = commands(data)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(known), action="append", help="run this one; may be repeated")
    chosen = parser.parse_args().only or list(known)
    runs = {name: _run(name, *known[name]) for name in chosen}
    failed = [name for name, code in runs.items() if code]
    if failed:
        print(f"failed: {', '.join(failed)}; the pages are left as they were", file=sys.stderr)
        return 1
    return readme.main() if any(code == 0 for code in runs.values()) else 0


def _run(name: str, needs: Path | None, arguments: list[str]) -> int | None:
    """The exit code of a benchmark in a process of its own, or None when its data are not here."""
    if needs is not None and not needs.exists():
        print(f"{name}: passed over, its data are not in the development data folder", flush=True)
        return None
    print(f"{name}: running", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
