"""`riskcards rubric`: questions by a language model or clinician, answered from records by rules."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from artifact_store import atomic_file

_COHORT = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Create and check rubrics: questions about a record, answered by rules without a language model.

    \b
    Write a prompt:      riskcards rubric prompt --cohort cohort/ --out prompt.md
    Check the answer:    riskcards rubric check answer.md --cohort cohort/ --out rubric.yaml
    Measure its value:   riskcards few-shot --cohort cohort/ --rubric rubric.yaml --out few-shot/
    """


@command.command(name="prompt")
@click.option("--cohort", required=True, type=_COHORT, help="Folder of `riskcards cohort build`.")
@click.option("--examples", default=40, show_default=True, type=click.IntRange(2, 200), help="Half with the outcome.")
@click.option("--budget", default=600, show_default=True, type=click.IntRange(64), help="Tokens of each record.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The prompt, as Markdown.")
def prompt_command(cohort: Path, examples: int, budget: int, out: Path) -> None:
    """Write the prompt that asks a language model for a rubric, with example patients of the training split.

    The file holds patient data: use it only with a model inside the hospital. This command sends no data.
    """
    from risk_model import LabelledCohort
    from risk_model.cohorts import TASK
    from risk_model.labels import parse_task
    from risk_model.research import example_patients, prompt_for_rubric

    labelled = LabelledCohort.open(cohort)
    question = parse_task((cohort / TASK).read_text("utf-8"), TASK).question
    patients = example_patients(labelled, examples, budget)
    text = prompt_for_rubric(labelled.task, question.outcome, patients)
    out.touch(mode=0o600)
    out.write_text(text, "utf-8")
    click.echo(f"{out}: {len(patients)} patients, about {len(text) // 4:,} tokens. It holds patient data.", err=True)


@command.command(name="check")
@click.argument("answer", type=_FILE)
@click.option("--cohort", type=_COHORT, help="Also count how often each item is known, in its training split.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the rubric alone, as YAML.")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
def check_command(answer: Path, cohort: Path | None, out: Path | None, as_json: bool) -> None:
    """Check a rubric, or a model's answer with one in a fenced block. Exit code 3 if invalid, naming the field."""
    from risk_model.features import Rubric, without_code_fence

    rubric = Rubric.open(answer)
    known = {} if cohort is None else _known(rubric, cohort)
    if out is not None:
        with atomic_file(out) as stream:
            stream.write(without_code_fence(answer.read_text("utf-8")).encode())
    if as_json:
        items = [
            {"id": i.id, "question": i.question, "type": i.type} | ({"known": known[i.name]} if known else {})
            for i in rubric.items
        ]
        document = {"task": rubric.task, "title": rubric.title, "author": rubric.author, "items": items}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"{rubric.title or rubric.task}: {len(rubric.items)} items, valid")
    for item in rubric.items:
        share = f"{100 * known[item.name]:>4.0f} % known  " if known else ""
        click.echo(f"  {share}{item.id:<24}{item.type:<8}{item.question}")


def _known(rubric: object, cohort: Path) -> dict[str, float]:
    import numpy as np

    from risk_model import LabelledCohort
    from risk_model.features import Rubric

    assert isinstance(rubric, Rubric)
    rows = [rubric.row(record) for _, record in LabelledCohort.open(cohort).records("train")]
    shares = np.isfinite(np.stack(rows)).mean(axis=0) if rows else np.zeros(len(rubric.names))
    return dict(zip(rubric.names, shares.tolist(), strict=True))
