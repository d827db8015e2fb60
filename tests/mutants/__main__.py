"""Mutation testing of the core: `python -m tests.mutants --help`, `make mutants`, docs/decisions/0076-*.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.mutants import fresh, survey
from tests.mutants.modules import CORE, load_groups


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--modules", nargs="*", default=[], help="parts of the names of modules; default: all of core.yaml"
    )
    parser.add_argument("--sample", type=int, default=40, help="mutants of each module, drawn by --seed; 0 is all")
    parser.add_argument("--seed", default="1", help="any word; the same word draws the same mutants of the same code")
    parser.add_argument("--processes", type=int, default=2, help="modules worked on at the same time")
    parser.add_argument("--again", action="store_true", help="run also what the results file already holds")
    parser.add_argument("--survivors", action="store_true", help="run what survived again, nothing else")
    parser.add_argument("--out", type=Path, default=survey.RESULTS, help="results; what they hold is not run again")
    parser.add_argument("--fresh", type=int, help="so many mutants drawn over all modules; exit 1 below the level")
    parser.add_argument("--limit-s", type=float, default=120, help="with --fresh: no new mutant after so many seconds")
    chosen = parser.parse_args(arguments)
    groups = list(load_groups(CORE, chosen.modules))
    if not groups:
        parser.error("no module of core.yaml has such a name")
    if chosen.fresh:
        return fresh.run(
            [group for group in groups if group.fresh], chosen.fresh, chosen.seed, chosen.processes, chosen.limit_s
        )
    return survey.run(groups, chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
