"""`--deidentify`, `--key-file` and `--keep-weekdays`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from risk_model.deidentification import Deidentifier


def deidentification_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the three options to a command."""
    for option in (
        click.option("--keep-weekdays", is_flag=True, help="With --deidentify: shift dates by whole weeks."),
        click.option(
            "--key-file",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="With --deidentify: secret of at least 16 bytes; the same key gives the same pseudonyms and dates.  "
            "[default: a random key for this run]",
        ),
        click.option(
            "--deidentify", is_flag=True, help="Remove names, places, numbers; shift dates; replace ids by pseudonyms."
        ),
    ):
        command = option(command)
    return command


def deidentifier_of(
    deidentify: bool, key_file: Path | None, *, keep_weekdays: bool, resumable: bool = False
) -> Deidentifier | None:
    """Returns what the options ask for. Raises UsageError for options that do not fit, and for too short a key."""
    if not deidentify:
        if key_file is not None or keep_weekdays:
            raise click.UsageError("--key-file and --keep-weekdays apply to --deidentify; add it")
        return None
    from risk_model.deidentification import Deidentifier

    if key_file is None:
        if resumable:
            raise click.UsageError("--work with --deidentify needs --key-file, so that a resumed run shifts alike")
        return Deidentifier(secrets.token_bytes(32), keep_weekdays)
    try:
        return Deidentifier(key_file.read_bytes().strip(), keep_weekdays)
    except OSError as error:
        raise click.UsageError(f"--key-file {key_file}: cannot be read ({error.__class__.__name__})") from None
    except ValueError as error:
        raise click.UsageError(
            f"--key-file {key_file}: {error}; make one with: openssl rand -hex 32 > {key_file}"
        ) from None
