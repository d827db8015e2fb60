"""The few-shot result as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from risk_model.reports import figures
from risk_model.reports.templating import render


def protocol_report(document: Mapping[str, Any]) -> str:
    """Returns the HTML page of a `riskcards benchmark ehr-encoders` result."""
    data, settings, means = document["data"], document["settings"], document["mean"]
    return render(
        "few_shot.html",
        title="Record encoders, few-shot",
        warning=document["warning"],
        about=f"{data['name']}: {data['subjects']:,} subjects with a prediction. {_method(settings)}",
        means=means,
        groups=document["groups"],
        **_compared(document["comparisons"]),
        mean_names=[f">{name}" for name in next(iter(means.values()), ())],
        tasks=[_task(place, name, found) for place, (name, found) in enumerate(document["tasks"].items())],
        left_out=document["left_out"],
    )


def _compared(found: Mapping[str, Any]) -> dict[str, Any]:
    """The table of differences: the mean over tasks first."""
    by_task = {"mean over tasks": found["mean"], **found["tasks"]}
    names = list(dict.fromkeys(name for by_k in by_task.values() for cells in by_k.values() for name in cells))
    lines = [
        (task, k, [cells.get(name) for name in names]) for task, by_k in by_task.items() for k, cells in by_k.items()
    ]
    return {"reference": found["reference"], "compared_names": [f">{name}" for name in names], "compared": lines}


def _method(settings: Mapping[str, Any]) -> str:
    draws = "the draws of the official files" if "official" in settings["drawn_by"] else f"{settings['draws']} draws"
    return (
        f"k examples of each kind for training and k for choosing the regularisation, {draws}; "
        f"records of at most {settings['budget']} tokens; AUROC on the test split, 95 % intervals from "
        f"{settings['bootstraps']} resamples of patients."
    )


def _task(place: int, name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    tables: Mapping[str, Mapping[str, Any]] = found["representations"]
    curves = {
        each: {k: cell["auroc"] for k, cell in table.items() if "auroc" in cell} for each, table in tables.items()
    }
    return {
        "name": name,
        "rows": "; ".join(
            f"{split} {part['rows']:,} rows of {part['subjects']:,} subjects, {part['outcomes']:,} with the outcome"
            for split, part in found["rows"].items()
        ),
        "drawn": figures.shots(f"shots-{place}", name, curves),
        "names": [f">{each}" for each in tables],
        "lines": [_line(k, [table[k] for table in tables.values()]) for k in next(iter(tables.values()))],
    }


def _line(k: str, cells: list[Mapping[str, Any]]) -> tuple[str, list[Mapping[str, Any]], str]:
    """One k: its cells, and the reasons why cells have no figure."""
    return k, cells, "; ".join(sorted({cell["reason"] for cell in cells if "reason" in cell}))
