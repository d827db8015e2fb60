"""requirements/llm.txt from what pip-compile resolved, without torch and its GPU libraries: see llm-pinned.txt.

    pip-compile ... -o - setup.cfg | python .ci/llm_lock.py requirements/dev.txt > requirements/llm.txt

A resolver picks torch with its CUDA libraries, gigabytes that a machine without a GPU has no use for. What dev.txt
locks already is left out too: `make llm` adds to that environment.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

GPU = re.compile(r"(torch|triton|nvidia-|cuda-)")
NAME = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==")


def blocks(lines: list[str]) -> dict[str, list[str]]:
    """Each package's lines: its pin, its hashes and who asked for it."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        start = NAME.match(line)
        name = start[1] if start else name
        if name and (start or line.startswith("    ")):
            found.setdefault(name, []).append(line)
    return found


def main() -> None:
    locked = blocks(Path(sys.argv[1]).read_text().splitlines())
    sys.stdout.write("# Written by `make lock`: language models beside dev.txt. torch stands in llm-pinned.txt.\n")
    for name, lines in blocks(sys.stdin.read().splitlines()).items():
        if name not in locked and not GPU.match(name):
            sys.stdout.write("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
