"""Formats numbers and UCUM units for display, the same on cards, pages and reports."""

from __future__ import annotations

_UNITS = {
    "mm[Hg]": "mmHg", "Cel": "°C", "{score}": "", "[pH]": "", "{INR}": "", "10*3/uL": "×10³/µL", "/min": "per minute",
    "a": "years", "d": "days", "h": "hours", "1": "",
}  # fmt: skip


def format_unit(unit: str | None) -> str:
    """Returns the display form of a UCUM code; a code without one is returned unchanged.

    >>> format_unit("mm[Hg]"), format_unit("mmol/L"), format_unit("{score}")
    ('mmHg', 'mmol/L', '')
    """
    return "" if unit is None else _UNITS.get(unit, unit)


def format_number(value: float) -> str:
    """Returns `value` with three significant digits (two below 1), without exponent; integer digits are never dropped.

    >>> [format_number(value) for value in (12345, 138.2, 8.61, 0.774, 0.054, 0.00004, 0)]
    ['12345', '138', '8.61', '0.77', '0.054', '0.00004', '0']
    """
    if abs(value) >= 100 or not value:
        return f"{value:.0f}"
    if abs(value) >= 0.001:
        return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"
    return f"{value:.5f}"


def format_quantity(value: float, unit: str | None) -> str:
    """Returns number and display unit.

    >>> format_quantity(1500, "mL"), format_quantity(15, "{score}"), format_quantity(1, "d")
    ('1500 mL', '15', '1 day')
    """
    number, label = format_number(value), format_unit(unit)
    if number == "1" and unit in {"a", "d", "h"}:
        label = label.removesuffix("s")
    return f"{number} {label}".strip()
