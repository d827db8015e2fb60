"""`--workers`, `--engine` and `--work`, alike in every command that takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from artifact_store import ENGINES, Workers, WorkersError, WorkFolderError, work_folder

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Parallel:
    """What the options say: who works, and where progress is kept."""

    workers: Workers
    work: Path | None

    def check(self, *, many: bool) -> None:
        """Raises UsageError where progress is to be kept of one patient."""
        if self.work is not None and not many:
            raise click.UsageError("--work needs a folder as input")

    @contextmanager
    def folder(self, out: Path | None) -> Iterator[Path]:
        """The work folder of a run that writes `out`. Raises UsageError where it cannot be used."""
        try:
            with work_folder(self.work, out, lambda message: click.echo(message, err=True)) as work:
                yield work
        except WorkFolderError as error:
            raise click.UsageError(str(error)) from None


class EngineType(click.ParamType):  # type: ignore[type-arg]  # subscriptable only since click 8.2
    """An engine that is installed here; the message for another one says what to install."""

    name = "engine"

    def get_metavar(self, *_args: Any, **_kwargs: Any) -> str:
        return f"[{'|'.join(ENGINES)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return Workers(1, str(value)).engine
        except WorkersError as error:
            self.fail(str(error), param, ctx)


engine_option = click.option(
    "--engine", type=EngineType(), default="local", show_default=True,
    help="Processes of this machine, or Ray (RAY_ADDRESS names a cluster), which needs the extra [scale].",
)  # fmt: skip


def workers_option(*names: str) -> Callable[[Command], Command]:
    """Adds `--workers`, and other names for it, as the parameter `count`."""
    return click.option(
        "--workers", *names, "count", type=click.IntRange(1, 1024), default=1, show_default=True,
        help="Workers; the result is the same with any number.",
    )  # fmt: skip


def parallel_options(*names: str) -> Callable[[Command], Command]:
    """Adds the three options to a command, which gets them as one `parallel`; `names` are other names of
    `--workers`."""
    work_option = click.option(
        "--work", type=click.Path(file_okay=False, path_type=Path),
        help="For a folder: where progress is kept, to resume.  [default: OUT.work, until the work is done]",
    )  # fmt: skip

    def decorate(command: Command) -> Command:
        @wraps(command)
        def taking(*args: Any, count: int, engine: str, work: Path | None, **given: Any) -> None:
            command(*args, parallel=Parallel(Workers(count, engine), work), **given)

        return workers_option(*names)(engine_option(work_option(taking)))

    return decorate
