"""`riskcards card`: a model card as HTML, JSON or CHAI XML."""

from __future__ import annotations

from pathlib import Path

import click
import orjson


@click.command(name="card")
@click.argument("model")
@click.option("--format", "form", type=click.Choice(["html", "json", "chai-xml"]), default="html", show_default=True)
@click.option(
    "--schema",
    type=click.Choice(["v0.2", "v0.1"]),
    default="v0.2",
    show_default=True,
    help="Of chai-xml: CHAI's schema.",
)
def command(model: str, form: str, schema: str) -> None:
    """Print the model card: training data, performance and limits of use.

    MODEL is a model folder, or a task for its shipped model: in_hospital_mortality, readmission_30d.

    \b
    riskcards card readmission_30d > card.html
    riskcards card out/model --format json
    """
    from risk_model import TASKS, model_card
    from risk_model.models import shipped_folder

    card = model_card(shipped_folder(model) if model in TASKS else Path(model))
    if form == "json":
        click.echo(orjson.dumps(card.to_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo(card.to_html() if form == "html" else card.to_chai_xml(schema), nl=False)
