"""`riskcards doctor`: checks packages, settings, models, index, clients and database."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click
import orjson

from cds_service.commands.service.doctor_language import first_stages, note_reader
from cds_service.commands.service.doctor_service import LOOKS, Look
from cds_service.commands.shared.opened import config_option
from cds_service.config.settings import Settings
from cds_service.config.sources import SettingsError

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
@config_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, config: Path | None) -> None:
    """Check this installation: packages, settings, models, index, encoder, clients and their keys, app, database.

    Settings are those that `riskcards serve` would start with: of --config and of the environment. Exit code 1 if a
    required check failed.
    """
    checks = [*_packages(), *_of_settings(config)]
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


def _of_settings(config: Path | None) -> list[Check]:
    """The checks that need settings; if these are invalid, every fault of them and nothing else."""
    try:
        settings = Settings.from_environment(os.environ, config)
    except SettingsError as error:
        return [Check("settings", "failed", fault) for fault in str(error).splitlines()]
    return [_tried(name, partial(look, settings)) for name, look in _LOOKS]


def _tried(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except Exception as error:  # noqa: BLE001 - every failure is reported as a failed check
        return Check(name, "failed", f"{error.__class__.__name__}: {error}")


def _settings(settings: Settings) -> str:
    return f"public URL {settings.public_url}, {len(settings.fhir_servers)} FHIR servers allowed" + "".join(
        f"; {warning}" for warning in settings.warnings()
    )


def _models(settings: Settings) -> str:
    from risk_model import TASKS, RiskModel
    from risk_model.models import shipped_folder

    given = settings.models
    models = [RiskModel.open(Path(given) / task if given else shipped_folder(task)) for task in TASKS]
    return ", ".join(f"{m.manifest['model_id']} {m.manifest['version']} (hashes verified)" for m in models)


def _index(settings: Settings) -> str:
    from knowledge_index import KnowledgeIndex

    given = settings.index
    index = KnowledgeIndex.open(Path(given)) if given else KnowledgeIndex.open_starter()
    return f"{len(index)} articles (hashes verified)"


def _encoder(_: Settings) -> str:
    from knowledge_index import MiniLMEncoder

    encoder = MiniLMEncoder()
    return f"{encoder.name}, {encoder.encode(['heart failure']).shape[1]} dimensions (hashes verified)"


_LOOKS: tuple[tuple[str, Look], ...] = (
    ("note reader", note_reader),
    ("first stages", first_stages),
    ("settings", _settings),
    ("models", _models),
    ("evidence index", _index),
    ("encoder", _encoder),
    *LOOKS.items(),
)
