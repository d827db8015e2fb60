"""The monitoring report as one printable HTML page without scripts or external resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from cds_service.protocol.services import SERVICES
from risk_model import TASKS
from risk_model.features import describe_input
from risk_model.models import FEWEST, SHIFTED, WATCH
from risk_model.reports import cards_by_day, html_page, html_table, metric_table, stability

MOST_INPUTS = 12


def monitoring_page(document: Mapping[str, Any]) -> str:
    """Returns the HTML report of a `monitoring.watch` document."""
    title = f"Monitoring: the last {document['days']} days"
    begun, ended = (datetime.fromisoformat(document[name]) for name in ("from", "to"))
    about = f"{_moment(begun)} to {_moment(ended)}. Read-only report."
    body = f"<h1>{escape(title)}</h1><p class=dim>{escape(about)}</p>{_alarms(document['alarms'])}"
    body += f"<h2>Alert burden</h2>{_days(document['by_day'])}{_burden(document['burden'])}"
    body += f"<h2>Feedback</h2>{_feedback(document['feedback'])}"
    body += f"<h2>Estimates withheld</h2>{_abstentions(document['abstentions'])}"
    for task, item in document["drift"].items():
        body += f"<h2>{escape(_title(task))}: drift from the training data</h2>{_drift(task, item)}"
    for task, item in document["calibration"].items():
        body += f"<h2>{escape(_title(task))}: calibration</h2>{_calibration(item)}"
    for task, groups in document["subgroups"].items():
        body += f"<h2>{escape(_title(task))}: subgroups</h2>{_subgroups(groups)}"
    return html_page(title, body)


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def _title(task: str) -> str:
    return TASKS[task].title if task in TASKS else task


def _service(name: str) -> str:
    return SERVICES[name].title if name in SERVICES else name


def _alarms(alarms: Sequence[str]) -> str:
    if not alarms:
        return "<p>No alarms. Comparisons need enough cards.</p>"
    lines = "".join(f"<li>{escape(_in_titles(alarm))}</li>" for alarm in alarms)
    return f"<div class=note><b>Needs attention</b><ul>{lines}</ul></div>"


def _in_titles(alarm: str) -> str:
    """Replaces the task ids of an alarm by their titles."""
    for task, about in TASKS.items():
        alarm = alarm.replace(task, about.title)
    return alarm


def _days(days: Sequence[Mapping[str, Any]]) -> str:
    if not days:
        return "<p class=dim>No cards.</p>"
    drawn = cards_by_day(*([day[name] for day in days] for name in ("day", "shown", "warnings")))
    return f"<div class=figures><figure>{drawn}<figcaption><b>Cards by day.</b></figcaption></figure></div>"


def _burden(burden: Mapping[str, Any]) -> str:
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
    head = ("service", "cards made", "shown (per 100)", "warnings (per 100)", "silent", "snoozed", "below threshold")
    return _table(head, rows)


def _feedback(feedback: Mapping[str, Any]) -> str:
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


def _abstentions(abstentions: Mapping[str, Any]) -> str:
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


def _drift(task: str, item: Mapping[str, Any]) -> str:
    others = item["estimates_of_other_versions"]
    about = f"{item['patients']} patients, {item['model']}" + (f"; {others} of other versions" if others else "")
    measured = [each for each in item["inputs"] if "psi" in each][:MOST_INPUTS]
    compared = [{**item["probabilities"], "name": "estimated probability"}, *measured]
    body = (
        f"<p class=dim>{escape(about)}. Comparisons need {FEWEST} patients. PSI is the population "
        f"stability index: watch above {WATCH:g}, shifted above {SHIFTED:g}, if more than by chance alone.</p>"
    )
    if measured:
        names, values = [describe_input(each["name"]) for each in measured], [each["psi"] for each in measured]
        drawn = stability(f"psi-{task}", names, values, WATCH, SHIFTED)
        body += f"<div class=figures><figure>{drawn}<figcaption><b>Inputs.</b></figcaption></figure></div>"
    rows = (
        (describe_input(each["name"]), each["rows"], _number(each.get("psi"), 2), _number(each.get("by_chance"), 2),
         each["verdict"], each["reference"])
        for each in compared
    )  # fmt: skip
    body += _table(("input", "patients", "PSI", "by chance", "verdict", "compared with"), rows)
    gone = [each for each in item["missingness"] if each["moved"]]
    if gone:
        unknown = ((describe_input(each["input"]), _share(each["training"]), _share(each["now"])) for each in gone)
        body += _table(("missing values unlike training", "unknown in training", "unknown now"), unknown)
    return body


def _calibration(item: Mapping[str, Any]) -> str:
    about = f"{item['model']}: {item['patients']} patients with an outcome, {item['with_the_outcome']} had it."
    if "reason" in item:
        return f"<p class=dim>{escape(about)} Not evaluated: {escape(item['reason'])}.</p>"
    return f"<p>{escape(about)}</p>{metric_table(item)}"


def _subgroups(groups: Mapping[str, Any]) -> str:
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


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Number columns are right-aligned; the last cell of a short row spans the rest."""
    lines = [tuple(row) for row in rows]
    if not lines:
        return "<p class=dim>No data yet.</p>"
    whole = [row for row in lines if len(row) == len(head)]
    right = [place > 0 and all(_is_number(row[place]) for row in whole) for place in range(len(head))]
    body = "".join(f"<tr>{_cells(row, right)}</tr>" for row in lines)
    return html_table([f">{name}" if is_right else name for name, is_right in zip(head, right, strict=True)], body)


def _cells(row: Sequence[Any], right: Sequence[bool]) -> str:
    rest = len(right) - len(row)
    cells = [_cell(value, is_right) for value, is_right in zip(row, right, strict=False)]
    if rest:
        cells[-1] = f"<td class=dim colspan={rest + 1}>{escape(str(row[-1]))}</td>"
    return "".join(cells)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or value in {"", "–"} or str(value)[:1].isdigit()


def _cell(value: Any, right: bool) -> str:
    return f"<td{' class=n' if right else ''}>{escape(str(value))}</td>"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
