"""Runs a sample of the mutants of each module and keeps the outcomes in a file, which it resumes."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.mutants.modules import HERE, Group, Placed, check, drawn, equivalents, preload
from tests.mutants.operators import Mutant, mutants
from tests.mutants.sessions import KILLED, ROOT, TIMEOUT

RESULTS = HERE / "results.json"
LEVEL = 0.92
NOTICED = frozenset({KILLED, TIMEOUT})
Found = dict[str, Any]


def run(groups: Sequence[Group], chosen: argparse.Namespace) -> int:
    """Runs what the results do not hold yet and prints what survived; returns 1 if a module is below the level."""
    preload()
    results = _load(chosen.out)
    todo = [left for group in groups if (left := _left(group, results, chosen)).modules]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(chosen.processes, mp_context=context) as pool:
        for done in as_completed([pool.submit(_group, group, chosen, results) for group in todo]):
            results |= done.result()
            _save(chosen.out, results)
            for path, found in done.result().items():
                _print(path, found)
    paths = [path for group in groups for path in group.modules]
    held = {path: results[path] for path in paths if "drawn" in results.get(path, {})}
    low = [path for path, found in held.items() if _level(found) < LEVEL]
    killed, count = (sum(found[name] for found in held.values()) for name in ("killed", "drawn"))
    print(f"{killed} of {count} mutants killed in {len(held)} modules, {len(low)} modules below {LEVEL:.0%}")
    return 1 if low or len(held) < len(paths) else 0


def _left(group: Group, results: dict[str, Found], chosen: argparse.Namespace) -> Group:
    """Returns the group with the modules that are to be run."""
    if chosen.survivors:
        kept = [path for path in group.modules if results.get(path, {}).get("survivors")]
    else:
        kept = [path for path in group.modules if chosen.again or not _holds(results.get(path), path, chosen)]
    return replace(group, modules=tuple(kept))


def _group(group: Group, chosen: argparse.Namespace, results: dict[str, Found]) -> dict[str, Found]:
    """Returns the outcomes of the samples of a group's modules; with `--survivors` of what survived before."""
    samples = {path: _sample(path, chosen, results.get(path)) for path in group.modules}
    outcomes: dict[str, dict[Mutant, str]] = {path: {} for path in samples}

    def report(placed: Placed, outcome: str) -> None:
        outcomes[placed[0]][placed[1]] = outcome
        if outcome not in NOTICED:
            print(f"{outcome}: {placed[0]}:{placed[1].line}  {placed[1].key}", flush=True)

    try:
        check(group, [(path, mutant) for path, sample in samples.items() for mutant in sample], report)
    except RuntimeError as error:
        return {path: {"error": str(error)} for path in samples}
    before = {path: results[path]["killed"] if chosen.survivors else 0 for path in samples}
    return {path: _found(path, chosen, outcomes[path], before[path]) for path in samples}


def _sample(path: str, chosen: argparse.Namespace, before: Found | None) -> list[Mutant]:
    if not chosen.survivors:
        return drawn(path, chosen.sample, chosen.seed)
    keys = {survivor["mutant"] for survivor in (before or {})["survivors"]} - set(equivalents().get(path, {}))
    return [mutant for mutant in mutants((ROOT / path).read_text()) if mutant.key in keys]


def _found(path: str, chosen: argparse.Namespace, outcomes: dict[Mutant, str], killed_before: int) -> Found:
    survivors = [
        {"line": mutant.line, "mutant": mutant.key, "outcome": outcome}
        for mutant, outcome in outcomes.items()
        if outcome not in NOTICED
    ]
    return {
        "source": _hash(path),
        "seed": chosen.seed,
        "sample": chosen.sample,
        "drawn": killed_before + len(outcomes),
        "killed": killed_before + len(outcomes) - len(survivors),
        "equivalent": len(equivalents().get(path, {})),
        "survivors": survivors,
    }


def _holds(found: Found | None, path: str, chosen: argparse.Namespace) -> bool:
    asked = {"source": _hash(path), "seed": chosen.seed, "sample": chosen.sample}
    return found is not None and all(found.get(name) == value for name, value in asked.items())


def _level(found: Found) -> float:
    return found["killed"] / found["drawn"] if found.get("drawn") else 0.0


def _print(path: str, found: Found) -> None:
    if "error" in found:
        print(f"ERROR {path}: {found['error']}", flush=True)
        return
    print(f"{_level(found):6.1%}  {found['killed']:4} of {found['drawn']:4}  {path}", flush=True)
    for survivor in found["survivors"]:
        print(f"        {path}:{survivor['line']}  {survivor['mutant']}  ({survivor['outcome']})", flush=True)


def _hash(path: str) -> str:
    return hashlib.sha256((ROOT / path).read_bytes()).hexdigest()[:16]


def _load(file: Path) -> dict[str, Found]:
    return dict(json.loads(file.read_text())["modules"]) if file.exists() else {}


def _save(file: Path, results: dict[str, Found]) -> None:
    """Replaces the file at once: a run may be ended at any time."""
    text = json.dumps({"level": LEVEL, "modules": dict(sorted(results.items()))}, indent=1, ensure_ascii=False)
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(text + "\n")
    beside.replace(file)
