"""How long the shipped models take for one row: the probability alone, and with every input's contribution.

    python -m benchmarks.head_latency [--rounds N] [--out FILE]

One thread, one row at a time as the service asks, medians and 95th percentiles. The row is the typical patient of the
model's own manifest; trees take the same time for any row.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.readme import RESULTS
from risk_model import TASKS, RiskModel
from risk_model.inputs import Row
from risk_model.model import shipped_folder

TARGET_MS = 1.0


def typical_row(model: RiskModel) -> Row:
    """The median of each input among training rows without the outcome, NaN where it was never known."""
    medians = {item["name"]: item.get("typical") for item in model.manifest["inputs"]}
    return np.array([np.nan if medians[n] is None else medians[n] for n in model.names], dtype=np.float32)


def timed(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Milliseconds of one call: median and 95th percentile of `rounds`, after a tenth as many to warm up."""
    for _ in range(rounds // 10):
        call()
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        took.append((time.perf_counter() - begin) * 1000)
    return {"p50_ms": float(np.percentile(took, 50)), "p95_ms": float(np.percentile(took, 95))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=RESULTS / "head_latency.json")
    options = parser.parse_args()
    result: dict[str, Any] = {"target_ms": TARGET_MS}
    for task in TASKS:
        model = RiskModel.open(shipped_folder(task))
        row = typical_row(model)
        result[task] = {
            "inputs": len(model.names),
            "probability": timed(lambda m=model, r=row: m.probabilities(r[None, :]), options.rounds),  # type: ignore[misc]
            "probability_and_contributions": timed(lambda m=model, r=row: m.head(r), options.rounds),  # type: ignore[misc]
        }
    options.out.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    print(options.out.read_text("utf-8"))


if __name__ == "__main__":
    main()
