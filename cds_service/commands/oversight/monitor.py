"""`riskcards monitor`: alert burden, overrides, abstentions, drift and calibration, from the store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from artifact_store import atomic_file
from cds_service.commands.shared.opened import config_option
from cds_service.commands.shared.running import service_database, unused_option


@click.command(name="monitor")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="Period in days.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Also write an HTML report to this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the full report as JSON.")
@unused_option
@config_option
def command(days: int, page: Path | None, as_json: bool, unused: bool, config: Path | None) -> None:
    """Report alert burden, overrides, abstentions, drift and calibration.

    \b
    riskcards monitor                          summary of the last 30 days
    riskcards monitor --days 90 --html m.html  HTML report with figures, without scripts
    riskcards outcomes import outcomes.csv     adds the outcomes that calibration needs

    Read-only report: recalibration, thresholds and modes are changed by people.
    """
    from cds_service.monitoring.document import watch
    from cds_service.monitoring.page import monitoring_page
    from risk_model import TASKS, RiskModel
    from risk_model.models import shipped_folder
    from risk_model.reports import require_matplotlib

    if page is not None:
        require_matplotlib()

    database = service_database(config)
    models = database.settings.models
    folders = {task: Path(models) / task if models else shipped_folder(task) for task in TASKS}
    opened = {task: RiskModel.open(folder) for task, folder in folders.items()}
    with database.opened(unused) as store:
        document = {"database": database.name, **watch(store, opened, days=days, now=datetime.now(UTC))}
    if page is not None:
        with atomic_file(page) as stream:
            stream.write(monitoring_page(document).encode())
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"database {database.name}")
    _print_summary(document)
    if page is not None:
        click.echo(f"written: {page}")


def _print_summary(document: dict[str, Any]) -> None:
    for service, item in document["burden"].items():
        rate = document["feedback"].get(service, {}).get("overridden_per_100_answered")
        feedback = "no feedback" if rate is None else f"{rate:.0f} of 100 answered overridden"
        shown, warnings = item["shown_per_100"], item["warnings_per_100"]
        click.echo(f"{service:<24}{item['made']:>7} cards, {shown:.0f} of 100 shown, {warnings:.0f} warned; {feedback}")
    for task, item in document["abstentions"].items():
        click.echo(f"{task:<24}{item['withheld_per_100']:>7.0f} of 100 estimates withheld")
    for task, item in document["drift"].items():
        found = item["probabilities"]
        figure = f"PSI {found['psi']:.3f}, {found['verdict']}" if "psi" in found else f"{found['rows']}: too few"
        click.echo(f"{task:<24}estimates against training: {figure}")
    for task, item in document["calibration"].items():
        ratio = item.get("observed_expected")
        result = item.get("reason", "")
        if ratio is not None:
            low, high = ratio["interval"]
            result = f"observed : expected {ratio['value']:.2f} ({low:.2f} to {high:.2f})"
        click.echo(f"{task:<24}{result}")
    for alarm in document["alarms"]:
        click.echo(f"attention: {alarm}")
    if not document["burden"]:
        click.echo(f"no cards in the last {document['days']} days")
