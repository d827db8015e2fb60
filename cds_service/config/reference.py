"""The table of `docs/settings.md`, from the definition of the settings.

python -m cds_service.config.reference          prints it
"""

from __future__ import annotations

import sys
from typing import Any

from pydantic.fields import FieldInfo

from cds_service.config.faults import PREFIX
from cds_service.config.settings import Settings
from cds_service.config.values import expected, extra


def settings_table() -> str:
    """A Markdown table of every setting: default, values it takes, description."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {_default(field)} | {expected(field)} | {_about(field)} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(("| name | default | values | what |", "|---|---|---|---|", *rows))


def _default(field: FieldInfo) -> str:
    shown = extra(field, "shown")
    return shown or (f"`{_written(field.default)}`" if field.default not in ("", ()) else "none")


def _written(value: Any) -> str:
    """As a variable of the environment has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _about(field: FieldInfo) -> str:
    zero = extra(field, "zero")
    return f"{field.description}; 0 is {zero}" if zero else str(field.description)


if __name__ == "__main__":
    sys.stdout.write(settings_table() + "\n")
