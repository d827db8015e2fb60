"""`riskcards cohort`: builds labelled cohorts from FHIR or MEDS, split by patient."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click
import orjson

from cds_service.commands.shared.files import TimeType, site_map_file
from cds_service.commands.shared.parallel import Parallel, parallel_options

if TYPE_CHECKING:
    from risk_model.cohorts import SplitPlan
    from risk_model.labels import AcesLabels


@click.group(name="cohort")
def command() -> None:
    """Build cohorts: patients, prediction times and outcomes.

    \b
    All tasks:           riskcards cohort tasks
    One definition:      riskcards cohort tasks readmission_30d --label cms-hwr
    From Bulk Data:      riskcards cohort build --task readmission_30d --fhir export/ --out cohort/
    From MEDS:           riskcards cohort build --task in_hospital_mortality --meds dataset/ --out cohort/
    Your own task:       riskcards cohort build --task my_task.yaml --fhir export/ --out cohort/

    Then: riskcards train --task TASK --cohort cohort/ --out model/
    """


class _Zone(click.ParamType):  # type: ignore[type-arg]  # subscriptable only since click 8.2
    name = "zone"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        if isinstance(value, tzinfo):
            return value
        try:
            return UTC if value == "UTC" else ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.fail(f"{value!r} is not a time zone such as Europe/Berlin or America/New_York", param, ctx)


class _FollowUp(click.ParamType):  # type: ignore[type-arg]  # subscriptable only since click 8.2
    name = "data|patient|none|date"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | datetime:
        if isinstance(value, str) and value in {"data", "patient", "none"}:
            return value
        return TimeType().convert(value, param, ctx)


class _Shares(click.ParamType):  # type: ignore[type-arg]  # subscriptable only since click 8.2
    """`0.15,0.15` or two dates."""

    name = "split"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> SplitPlan:
        from risk_model.cohorts import ByHash, ByTime

        parts = str(value).split(",")
        if len(parts) != 2:
            self.fail("two shares such as 0.15,0.15 or two dates such as 2022-01-01,2022-07-01", param, ctx)
        try:
            validation, test = (float(part) for part in parts)
        except ValueError:
            first, second = (TimeType().convert(part, param, ctx) for part in parts)
            if first >= second:
                self.fail("validation must begin before test", param, ctx)
            return ByTime(_midnight(first), _midnight(second))
        if not (validation >= 0 and test >= 0 and validation + test < 1):
            self.fail("the shares of validation and test must leave something to train on", param, ctx)
        return ByHash(validation, test)


def _midnight(moment: datetime) -> datetime:
    """The start of a bare date, which TimeType reads as its end."""
    last = moment.replace(hour=23, minute=59, second=59, microsecond=999999)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) if moment == last else moment


@command.command(name="build")
@click.option("--task", required=True, help="A task of `riskcards cohort tasks`, or a task file of your own (.yaml).")
@click.option("--label", "definition", metavar="DEFINITION", help="Label definition.  [default: the task's first]")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Label file or folder of MEDS or ACES (parquet, csv), instead of a definition; TASK is then any name.",
)
@click.option(
    "--aces", "aces_task", type=click.Path(path_type=Path),
    help="Task file of ACES, such as MEDS-DEV's, instead of a definition; needs --meds; TASK is then any name.",
)  # fmt: skip
@click.option("--predicates", type=click.Path(path_type=Path), help="With --aces: the predicates file of the data.")
@click.option("--fhir", type=click.Path(path_type=Path), help="Folder of Bulk Data NDJSON, or of Bundles; .gz too.")
@click.option("--meds", type=click.Path(path_type=Path), help="MEDS dataset (parquet); needs the extra [meds].")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write; new or empty.")
@click.option(
    "--split",
    "plan",
    type=_Shares(),
    default="0.15,0.15",
    show_default=True,
    help="Shares of validation and test by hash of the patient, or the dates on which each begins.",
)
@click.option(
    "--folds", type=click.IntRange(min=2), help="Number of folds, each with both classes.  [default: up to 5]"
)
@click.option(
    "--follow-up",
    type=_FollowUp(),
    default="data",
    show_default=True,
    help="End of follow-up: of the data, each patient's last entry (for shifted dates), unlimited (none), or a date.",
)
@click.option(
    "--site-map",
    type=click.Path(path_type=Path),
    callback=site_map_file,
    help="YAML file that translates a site's own codes; kept with the cohort.",
)
@click.option(
    "--zone", type=_Zone(), default="UTC", show_default=True, help="The hospital's time zone, for the end of a day."
)
@parallel_options()
@click.option("--json", "as_json", is_flag=True, help="Print cohort.json.")
def build_command(
    task: str,
    definition: str | None,
    labels: Path | None,
    aces_task: Path | None,
    predicates: Path | None,
    fhir: Path | None,
    meds: Path | None,
    out: Path,
    plan: SplitPlan,
    folds: int | None,
    follow_up: str | datetime,
    site_map: Path | None,
    zone: tzinfo,
    parallel: Parallel,
    as_json: bool,
) -> None:
    """Build a cohort folder.

    \b
    riskcards cohort build --task readmission_30d --label ehrshot --fhir export/ --out cohort/
    riskcards cohort build --task in_hospital_mortality --meds dataset/ --split 2022-01-01,2022-07-01 --out cohort/
    riskcards cohort build --task my_task --labels my_task.parquet --meds dataset/ --out cohort/
    riskcards cohort build --task icu_death --aces first_24h.yaml --predicates mimic.yaml --meds dataset/ --out cohort/

    OUT gets cohort.json (counts, exclusions by reason), labels.jsonl (one prediction per line), task.yaml (the
    definition) and patients.ndjson.gz (the data of the labelled patients: protect it as patient data). All charts of a
    patient are in one split. Rows whose outcome is unknown are excluded, with the reason.
    """
    if (fhir is None) == (meds is None):
        raise click.UsageError("give --fhir DIR or --meds DIR")
    from risk_model.cohorts import CohortOptions, build_cohort
    from risk_model.labels import GivenLabels, find_definition, task_of_labels

    if sum(option is not None for option in (labels, definition, aces_task)) > 1:
        raise click.UsageError("give one of --label, --labels and --aces: each says what the labels are")
    if aces_task is not None and meds is None:
        raise click.UsageError(
            "--aces reads MEDS data: riskcards map EXPORT --to meds --out DATASET, then --meds DATASET"
        )
    if predicates is not None and aces_task is None:
        raise click.UsageError("--predicates needs --aces")
    kind = "fhir" if fhir is not None else "meds"

    def progress(message: str) -> None:
        click.echo(message, err=True)

    with parallel.folder(out) as work, _source(fhir, meds, progress, work) as source:
        given = None if labels is None else GivenLabels.open(labels)
        if aces_task is not None:
            labeller = _by_aces(aces_task, predicates)
            given = labeller.given(aces_task, source.subjects())
            if warning := labeller.warning():
                progress(f"warning: {warning}")
        chosen = find_definition(task, definition) if given is None else task_of_labels(task)
        options = CohortOptions(
            plan, folds, follow_up, zone, kind, site_map and site_map.absolute(), given, parallel.workers, work
        )
        cohort = build_cohort(chosen, source, out, options, progress)
    if as_json:
        click.echo(orjson.dumps(cohort.manifest, option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(_summary(dict(cohort.manifest), out))


def _by_aces(task: Path, predicates: Path | None) -> AcesLabels:
    from risk_model.labels import AcesLabels, AcesTask

    return AcesLabels(AcesTask.open(task, predicates))


@command.command(name="labels")
@click.option("--aces", "aces_task", type=click.Path(path_type=Path), required=True, help="Task file of ACES.")
@click.option("--predicates", type=click.Path(path_type=Path), help="The predicates file of the data.")
@click.option("--meds", type=click.Path(path_type=Path), required=True, help="MEDS dataset; needs the extra [meds].")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Label file to write: TASK.csv or TASK.parquet."
)
def labels_command(aces_task: Path, predicates: Path | None, meds: Path, out: Path) -> None:
    """Write the labels of an ACES task file as a MEDS label file.

    \b
    riskcards cohort labels --aces in_icu/first_24h.yaml --predicates mimic.yaml --meds dataset/ --out labels/icu.csv
    riskcards benchmark ehr-encoders --meds dataset/ --labels labels/ --tasks icu --out results/

    ACES itself is not needed. A construct that is not supported is an error that names it (docs/cohorts.md).
    """
    from risk_model.labels import write_labels

    labels = _by_aces(aces_task, predicates)
    with _source(None, meds, lambda message: click.echo(message, err=True)) as source:
        found = [label for subject, rows in source.subjects() for label in labels.of(subject, rows)]
    write_labels(found, out)
    positive = sum(label.label for label in found)
    click.echo(f"{labels.triggers:,} triggers, {len(found):,} labels, {positive:,} positive, written to {out}")
    for reason, number in labels.left_out.most_common():
        click.echo(f"  {number:>8}  {reason}")
    if warning := labels.warning():
        click.echo(f"warning: {warning}")


def _source(fhir: Path | None, meds: Path | None, progress: Callable[[str], None], work: Path | None = None) -> Any:
    if fhir is not None:
        from risk_model.cohorts import FhirFolder

        return FhirFolder(fhir, progress, work=work)
    from risk_model.cohorts import MedsDataset

    assert meds is not None
    return MedsDataset(meds.absolute(), progress)


def _summary(found: dict[str, Any], out: Path) -> str:
    lines = [f"{found['title']} ({found['task']}, {found['definition']})", ""]
    for name, part in [("all", found), *found["by_split"].items()]:
        share = f"{100 * part['positives'] / part['rows']:.1f} %" if part["rows"] else "-"
        numbers = f"{part['rows']:>8} rows{part['patients']:>8} patients{part['positives']:>8} positive"
        lines.append(f"  {name:<12}{numbers}{share:>9}")
    if found["excluded"]:
        lines += ["", "excluded"] + [f"  {number:>8}  {reason}" for reason, number in found["excluded"].items()]
    if found["patients_without_a_prediction"]:
        lines.append(f"  {found['patients_without_a_prediction']:>8}  patients without a stay or event to predict at")
    if found["left_out"]:
        lines += ["", "not read"] + [f"  {number:>8}  {reason}" for reason, number in found["left_out"].items()]
    lines += [f"warning: {warning}" for warning in found["warnings"]]
    return "\n".join([*lines, "", f"written to {out}"])


@command.command(name="tasks")
@click.argument("task", required=False)
@click.option("--label", "definition", metavar="DEFINITION", help="One of its label definitions.")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
def tasks_command(task: str | None, definition: str | None, as_json: bool) -> None:
    """List tasks and label definitions; with TASK their timelines, with --label the file to adapt.

    \b
    riskcards cohort tasks
    riskcards cohort tasks readmission_30d
    riskcards cohort tasks readmission_30d --label cms-hwr > my_task.yaml
    """
    from risk_model.labels import find_definition, shipped_definitions

    if task is not None and definition is not None:
        click.echo(find_definition(task, definition).text, nl=False)
        return
    if task is not None:
        find_definition(task)
    chosen = [item for item in shipped_definitions().values() if task in {None, item.id}]
    if as_json:
        rows = [
            {"task": i.id, "definition": i.definition, "title": i.title, "source": i.source, "timeline": i.timeline}
            for i in chosen
        ]
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    for item in chosen:
        click.echo(f"{item.id:<24}{item.definition:<28}{item.title}")
        if task is not None:
            click.echo(f"\n{item.timeline}\n")
