"""The few-shot result as one HTML page: figures as SVG, tables, no script, nothing from another host."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from risk_model.reports import figures
from risk_model.reports.html_report import html_page, html_table


def protocol_report(document: Mapping[str, Any]) -> str:
    """The page of a `riskcards benchmark ehr-encoders` result."""
    data, settings = document["data"], document["settings"]
    head = document["warning"]
    body = [
        "<h1>Record encoders, few-shot</h1>",
        "" if head is None else f"<p class=note role=note><b>{escape(head)}</b></p>",
        f"<p class=dim>{escape(data['name'])}: {data['subjects']:,} subjects with a prediction. "
        f"{escape(_how(settings))}</p>",
        "<h2>Mean over tasks</h2>",
        _means(document["mean"]),
    ]
    for place, (task, found) in enumerate(document["tasks"].items()):
        body.append(f"<h2>{escape(task)}</h2>{_rows(found['rows'])}{_figure(place, task, found['representations'])}")
        body.append(_table(found["representations"]))
    if document["left_out"]:
        lines = "".join(f"<li><b>{escape(task)}</b>: {escape(why)}</li>" for task, why in document["left_out"].items())
        body.append(f"<h2>Left out</h2><ul>{lines}</ul>")
    return html_page("Record encoders, few-shot", "".join(body))


def _how(settings: Mapping[str, Any]) -> str:
    return (
        f"k examples of each kind to learn from and k to choose the regularisation by, {settings['draws']} draws; "
        f"records of at most {settings['budget']} tokens; AUROC on the test split, 95 % intervals from "
        f"{settings['bootstraps']} resamples of patients."
    )


def _means(means: Mapping[str, Any]) -> str:
    if not means:
        return "<p>No k has figures of every representation.</p>"
    names = list(next(iter(means.values())))
    rows = "".join(
        f"<tr><td>{escape(k)}</td><td class=n>{row[names[0]]['tasks']}</td>"
        + "".join(f"<td class=n>{row[name]['auroc']:.3f}</td>" for name in names)
        + "</tr>"
        for k, row in means.items()
    )
    words = "AUROC; a line holds the tasks with enough examples for its k: lines of different tasks do not compare."
    return html_table(("k", ">tasks", *(f">{name}" for name in names)), rows, words)


def _rows(rows: Mapping[str, Mapping[str, int]]) -> str:
    text = "; ".join(
        f"{split} {part['rows']:,} rows of {part['subjects']:,} subjects, {part['outcomes']:,} with the outcome"
        for split, part in rows.items()
    )
    return f"<p class=dim>{escape(text)}</p>"


def _figure(place: int, task: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    lines = {name: {k: cell["auroc"] for k, cell in table.items() if "auroc" in cell} for name, table in tables.items()}
    svg = figures.shots(f"shots-{place}", task, lines)
    words = "AUROC by examples of each kind; bands are 95 % intervals."
    return f"<div class=figures style=max-width:32rem><figure>{svg}<figcaption>{words}</figcaption></figure></div>"


def _table(tables: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(tables)
    shots = list(next(iter(tables.values())))
    rows = "".join(f"<tr><td>{escape(k)}</td>{_cells([tables[name][k] for name in names])}</tr>" for k in shots)
    return html_table(("k", *(f">{name}" for name in names)), rows, "AUROC")


def _cells(cells: list[Mapping[str, Any]]) -> str:
    reasons = {cell["reason"] for cell in cells if "reason" in cell}
    if reasons:
        return f"<td class=dim colspan={len(cells)}>{escape('; '.join(sorted(reasons)))}</td>"
    return "".join(
        f"<td class=n>{cell['auroc']['value']:.3f} <span class=i>{cell['auroc']['interval'][0]:.3f} to "
        f"{cell['auroc']['interval'][1]:.3f}</span></td>"
        for cell in cells
    )
