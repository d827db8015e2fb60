"""The monitoring document as one HTML page: no script, nothing from another host, fit for print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from risk_model import TASKS, figures
from risk_model.drift import FEWEST, SHIFTED, WATCH
from risk_model.report import metric_table, page

MOST_INPUTS = 12


def monitoring_page(document: Mapping[str, Any]) -> str:
    """The document of `monitoring.watch` for people."""
    title = f"Monitoring: the last {document['days']} days"
    about = f"{document['from'][:16]} to {document['to'][:16]} UTC. This page changes nothing; what to do is yours."
    body = f"<h1>{escape(title)}</h1><p class=dim>{escape(about)}</p>{_alarms(document['alarms'])}"
    body += f"<h2>Alert burden</h2>{_days(document['by_day'])}{_burden(document['burden'])}"
    body += f"<h2>What people made of it</h2>{_feedback(document['feedback'])}"
    body += f"<h2>Estimates withheld</h2>{_abstentions(document['abstentions'])}"
    for task, item in document["drift"].items():
        body += f"<h2>{escape(_title(task))}: are the patients those of training?</h2>{_drift(task, item)}"
    for task, item in document["calibration"].items():
        body += f"<h2>{escape(_title(task))}: do the estimates come true?</h2>{_calibration(item)}"
    for task, groups in document["subgroups"].items():
        body += f"<h2>{escape(_title(task))}: for whom?</h2>{_subgroups(groups)}"
    return page(title, body)


def _title(task: str) -> str:
    return TASKS[task].title if task in TASKS else task


def _alarms(alarms: Sequence[str]) -> str:
    if not alarms:
        return "<p>Nothing here asks for attention, as far as there are cards enough to tell.</p>"
    return f"<div class=note><ul>{''.join(f'<li>{escape(alarm)}</li>' for alarm in alarms)}</ul></div>"


def _days(days: Sequence[Mapping[str, Any]]) -> str:
    if not days:
        return "<p class=dim>No card was made.</p>"
    drawn = figures.cards_by_day(*([day[name] for day in days] for name in ("day", "shown", "warnings")))
    return f"<div class=figures><figure>{drawn}<figcaption><b>Cards by day.</b></figcaption></figure></div>"


def _burden(burden: Mapping[str, Any]) -> str:
    rows = (
        (
            service,
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
            service,
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
            ", ".join(f"{code} ({count})" for code, count in item["codes"].items()) or "–",
        )
        for task, item in abstentions.items()
    )
    return _table(("task", "asked for", "withheld", "per 100", "reasons"), rows)


def _drift(task: str, item: Mapping[str, Any]) -> str:
    others = item["estimates_of_other_versions"]
    about = f"{item['patients']} patients, {item['model']}" + (f"; {others} of other versions" if others else "")
    measured = [each for each in item["inputs"] if "psi" in each][:MOST_INPUTS]
    compared = [{"name": "estimated probability", **item["probabilities"]}, *measured]
    body = f"<p class=dim>{escape(about)}. Below {FEWEST} patients nothing is compared.</p>"
    if measured:
        names, values = [each["name"] for each in measured], [each["psi"] for each in measured]
        drawn = figures.stability(f"psi-{task}", names, values, WATCH, SHIFTED)
        body += f"<div class=figures><figure>{drawn}<figcaption><b>Inputs.</b></figcaption></figure></div>"
    rows = (
        (each["name"], each["rows"], _number(each.get("psi")), _number(each.get("by_chance")), each["verdict"],
         each["reference"])
        for each in compared
    )  # fmt: skip
    body += _table(("", "patients", "PSI", "by chance", "", "compared with"), rows)
    gone = [each for each in item["missingness"] if each["moved"]]
    if gone:
        unknown = ((each["input"], _share(each["training"]), _share(each["now"])) for each in gone)
        body += _table(("known otherwise than in training", "unknown in training", "unknown now"), unknown)
    return body


def _calibration(item: Mapping[str, Any]) -> str:
    about = f"{item['model']}: {item['patients']} patients with an outcome, {item['with_the_outcome']} had it."
    if "reason" in item:
        return f"<p class=dim>{escape(about)} Not judged: {escape(item['reason'])}.</p>"
    return f"<p>{escape(about)}</p>{metric_table(item)}"


def _subgroups(groups: Mapping[str, Any]) -> str:
    """Shares per 100 patients with their 95 % intervals; small groups are counted and not judged."""
    names = ("warned", "withheld", "mean_estimate")
    ratios = ("observed_expected", "auroc")
    rows = (
        (name, item["patients"], item["reason"], *[""] * 5)
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
    head = ("", "patients", "warned of, per 100", "withheld, per 100", "mean estimate, per 100", "with outcomes",
            "observed : expected", "AUROC")  # fmt: skip
    return _table(head, rows)


def _interval(found: Mapping[str, Any] | None, times: int) -> str:
    if found is None:
        return "–"
    value, (low, high) = found["value"], found["interval"]
    digits = 1 if times > 1 else 2
    return f"{times * value:.{digits}f} ({times * low:.{digits}f} to {times * high:.{digits}f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    if not lines:
        return "<p class=dim>Nothing yet.</p>"
    return (
        f"<div class=wide><table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>{lines}</table></div>"
    )


def _cell(value: Any) -> str:
    return f"<td class=n>{value}</td>" if isinstance(value, int) else f"<td>{escape(str(value))}</td>"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
