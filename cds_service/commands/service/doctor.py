"""`riskcards doctor`: checks packages, settings, models, index, clients and database."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import orjson

from cds_service.commands.service.doctor_service import LOOKS

_NEEDED = (
    "numpy", "scipy", "faiss-cpu", "onnxruntime", "tokenizers", "flask", "gunicorn", "orjson", "fhir.resources",
    "fhirclient", "scikit-learn", "sqlalchemy",
)  # fmt: skip
_EXTRAS = {"llm": "torch", "scale": "ray"}


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `ok`, `missing` (an optional part) or `failed`, with details or a remedy."""

    name: str
    result: str
    detail: str


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="For programs to read.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Check this installation: packages, settings, models, index, encoder, clients and their keys, app, database.

    Exit code 1 if a required check failed.
    """
    checks = [*_packages(), *(_tried(name, look) for name, look in _LOOKS)]
    if as_json:
        click.echo(orjson.dumps([asdict(check) for check in checks], option=orjson.OPT_INDENT_2).decode())
    else:
        for check in checks:
            click.echo(f"  {check.result:<8}{check.name:<28}{check.detail}")
    if any(check.result == "failed" for check in checks):
        ctx.exit(1)


def _packages() -> list[Check]:
    found = [Check("python", "ok", platform.python_version())]
    for name in _NEEDED:
        try:
            found.append(Check(name, "ok", version(name)))
        except PackageNotFoundError:
            found.append(Check(name, "failed", f"pip install {name}"))
    for extra, name in _EXTRAS.items():
        try:
            found.append(Check(name, "ok", version(name)))
        except PackageNotFoundError:
            found.append(Check(name, "missing", f'optional: pip install "riskcards[{extra}]"'))
    return found


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except Exception as error:  # noqa: BLE001 - every failure is reported as a failed check
        return Check(name, "failed", f"{error.__class__.__name__}: {error}")


def _settings() -> str:
    from cds_service.config.settings import Settings

    settings = Settings.from_environment(os.environ)
    return f"public URL {settings.public_url}, {len(settings.fhir_servers)} FHIR servers allowed"


def _models() -> str:
    from cds_service.config.settings import Settings
    from risk_model import TASKS, RiskModel
    from risk_model.models import shipped_folder

    given = Settings.from_environment(os.environ).models
    models = [RiskModel.open(Path(given) / task if given else shipped_folder(task)) for task in TASKS]
    return ", ".join(f"{m.manifest['model_id']} {m.manifest['version']} (hashes verified)" for m in models)


def _index() -> str:
    from cds_service.config.settings import Settings
    from knowledge_index import KnowledgeIndex

    given = Settings.from_environment(os.environ).index
    index = KnowledgeIndex.open(Path(given)) if given else KnowledgeIndex.open_starter()
    return f"{len(index)} articles (hashes verified)"


def _encoder() -> str:
    from knowledge_index import MiniLMEncoder

    encoder = MiniLMEncoder()
    return f"{encoder.name}, {encoder.encode(['heart failure']).shape[1]} dimensions (hashes verified)"


def _note_reader() -> str:
    from cds_service.commands.service.doctor_language import note_reader

    return note_reader()


def _first_stages() -> str:
    from cds_service.commands.service.doctor_language import first_stages

    return first_stages()


_LOOKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("note reader", _note_reader),
    ("first stages", _first_stages),
    ("settings", _settings),
    ("models", _models),
    ("evidence index", _index),
    ("encoder", _encoder),
    *LOOKS.items(),
)
