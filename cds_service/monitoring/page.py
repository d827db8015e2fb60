"""The monitoring report as one printable HTML page without scripts or external resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cds_service.services import SERVICES
from risk_model import TASKS
from risk_model.features import describe_input
from risk_model.models import FEWEST, SHIFTED, WATCH
from risk_model.reports import cards_by_day, measures, render, stability

MOST_INPUTS = 12


@dataclass(frozen=True, slots=True)
class TableView:
    """Rows of one table; a heading that begins with ">" is over numbers, a short row's last cell spans the rest."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Any]]


def monitoring_page(document: Mapping[str, Any]) -> str:
    """Returns the HTML report of a `monitoring.watch` document."""
    begin, end = (datetime.fromisoformat(document[name]) for name in ("from", "to"))
    return render(
        "monitoring.html",
        package="cds_service",
        title=f"Monitoring: the last {document['days']} days",
        about=f"{_moment(begin)} to {_moment(end)}. Read-only report.",
        alarms=[_in_titles(alarm) for alarm in document["alarms"]],
        cards_by_day=_days(document["by_day"]),
        burden=_burden(document["burden"]),
        feedback=_feedback(document["feedback"]),
        abstentions=_abstentions(document["abstentions"]),
        drift=[_drift(task, item) for task, item in document["drift"].items()],
        calibration=[_calibration(task, item) for task, item in document["calibration"].items()],
        subgroups=[
            {"title": _title(task), "view": _subgroups(groups)} for task, groups in document["subgroups"].items()
        ],
    )


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def _title(task: str) -> str:
    return TASKS[task].title if task in TASKS else task


def _service(name: str) -> str:
    return SERVICES[name].name if name in SERVICES else name


def _in_titles(alarm: str) -> str:
    """Replaces the task ids of an alarm by their titles."""
    for task, about in TASKS.items():
        alarm = alarm.replace(task, about.title)
    return alarm


def _days(days: Sequence[Mapping[str, Any]]) -> str:
    return cards_by_day(*([day[name] for day in days] for name in ("day", "shown", "warnings"))) if days else ""


def _burden(burden: Mapping[str, Any]) -> TableView:
    rows = (
        (
            _service(service),
            item["made"],
            f"{item['shown']} ({_number(item['shown_per_100'])})",
            f"{item['warnings']} ({_number(item['warnings_per_100'])})",
            *item["not_shown"].values(),
        )
        for service, item in burden.items()
    )
    return _table(
        ("service", "cards made", "shown (per 100)", "warnings (per 100)", "silent", "snoozed", "below threshold"), rows
    )


def _feedback(feedback: Mapping[str, Any]) -> TableView:
    rows = (
        (
            _service(service),
            item["shown"],
            item["accepted"],
            item["overridden"],
            _number(item["overridden_per_100_answered"]),
            ", ".join(f"{reason} ({count})" for reason, count in item["reasons"].items()) or "–",
        )
        for service, item in feedback.items()
    )
    return _table(("service", "shown", "accepted", "overridden", "per 100 answered", "reasons"), rows)


def _abstentions(abstentions: Mapping[str, Any]) -> TableView:
    rows = (
        (
            _title(task),
            item["asked"],
            item["withheld"],
            _number(item["withheld_per_100"]),
            ", ".join(f"{code.replace('-', ' ')} ({count})" for code, count in item["codes"].items()) or "–",
        )
        for task, item in abstentions.items()
    )
    return _table(("task", "requested", "withheld", "per 100", "reasons"), rows)


def _drift(task: str, item: Mapping[str, Any]) -> dict[str, Any]:
    others = item["estimates_of_other_versions"]
    about = f"{item['patients']} patients, {item['model']}" + (f"; {others} of other versions" if others else "")
    measured = [each for each in item["inputs"] if "psi" in each][:MOST_INPUTS]
    names, values = [describe_input(each["name"]) for each in measured], [each["psi"] for each in measured]
    inputs = (
        (describe_input(each["name"]), each["rows"], _number(each.get("psi"), 2), _number(each.get("by_chance"), 2),
         each["verdict"], each["reference"])
        for each in [{**item["probabilities"], "name": "estimated probability"}, *measured]
    )  # fmt: skip
    missing = (
        (describe_input(each["input"]), _share(each["training"]), _share(each["now"]))
        for each in item["missingness"]
        if each["moved"]
    )
    return {
        "title": _title(task),
        "about": f"{about}. Comparisons need {FEWEST} patients. PSI is the population stability index: watch above "
        f"{WATCH:g}, shifted above {SHIFTED:g}, if more than by chance alone.",
        "drawn": stability(f"psi-{task}", names, values, WATCH, SHIFTED) if measured else "",
        "inputs": _table(("input", "patients", "PSI", "by chance", "verdict", "compared with"), inputs),
        "missing": _table(("missing values unlike training", "unknown in training", "unknown now"), missing),
    }


def _calibration(task: str, item: Mapping[str, Any]) -> dict[str, Any]:
    about = f"{item['model']}: {item['patients']} patients with an outcome, {item['with_the_outcome']} had it."
    if "reason" in item:
        return {"title": _title(task), "about": f"{about} Not evaluated: {item['reason']}.", "measures": []}
    return {"title": _title(task), "about": about, "measures": measures(item)}


def _subgroups(groups: Mapping[str, Any]) -> TableView:
    """Rates per 100 patients with 95 % intervals; small groups are counted but not evaluated."""
    names = ("warned", "withheld", "mean_estimate")
    ratios = ("observed_expected", "auroc")
    rows = (
        (name, item["patients"], item["reason"])
        if "reason" in item
        else (
            name,
            item["patients"],
            *(_interval(item.get(each), 100) for each in names),
            item["with_outcomes"],
            *(_interval(item.get(each), 1) for each in ratios),
        )
        for name, item in groups.items()
    )
    head = ("group", "patients", "warnings, per 100", "withheld, per 100", "mean estimate, per 100", "with outcomes",
            "observed : expected", "AUROC")  # fmt: skip
    return _table(head, rows)


def _interval(found: Mapping[str, Any] | None, times: int) -> str:
    if found is None:
        return "–"
    value, (low, high) = found["value"], found["interval"]
    digits = 1 if times > 1 else 2
    return f"{times * value:.{digits}f} ({times * low:.{digits}f} to {times * high:.{digits}f})"


def _table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> TableView:
    """A column is marked as numbers where every full row has a number in it."""
    lines = [tuple(row) for row in rows]
    full = [row for row in lines if len(row) == len(headings)]
    marked = [
        f">{name}" if place and full and all(_is_number(row[place]) for row in full) else name
        for place, name in enumerate(headings)
    ]
    return TableView(marked, lines)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or value in {"", "–"} or str(value)[:1].isdigit()


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
