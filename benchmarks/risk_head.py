"""Time of one row in stage 2: probability and exact contributions, the distance check, counterfactuals.

    python -m benchmarks.risk_head [--models DIR]

Rows are drawn within the ranges of the manifest, as often unknown as in training. Medians over many rows in one thread,
in milliseconds; the result goes to `benchmarks/results/risk_head.json`.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np
import orjson

from risk_model import TASKS, RiskModel
from risk_model.features.inputs import Row
from risk_model.models import shipped_folder

ROWS = 500
RESULT = Path(__file__).parent / "results" / "risk_head.json"


def drawn(model: RiskModel, generator: np.random.Generator) -> Row:
    """One plausible row of a model."""
    values = []
    for item in model.manifest["inputs"]:
        low, high = item.get("low"), item.get("high")
        known = low is not None and high is not None and generator.random() < item["known"]
        values.append(generator.uniform(low, high) if known else np.nan)
    return np.array(values, dtype=np.float32)


def timed(step: Callable[[Row], Any], rows: list[Row]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    step(rows[0])
    laps = []
    for row in rows:
        start = perf_counter()
        step(row)
        laps.append(1000 * (perf_counter() - start))
    return {"median_ms": round(median(laps), 3), "p95_ms": round(quantiles(laps, n=20)[-1], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder with one model folder for each task; default: the shipped")
    folder = parser.parse_args().models
    found: dict[str, Any] = {"machine": platform.machine(), "python": platform.python_version(), "rows": ROWS}
    for task in TASKS:
        model = RiskModel.open(shipped_folder(task) if folder is None else folder / task)
        rows = [drawn(model, np.random.default_rng(n)) for n in range(ROWS)]
        steps: dict[str, Callable[[Row], Any]] = {
            "probability_and_contributions": model.head,
            "probability_only": lambda row, model=model: model.probabilities(row[None]),
        }
        if model.distribution is not None:
            steps["distance_from_training"] = model.distribution.outlier_score
        found[task] = {"inputs": len(model.names)} | {name: timed(step, rows) for name, step in steps.items()}
    RESULT.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
