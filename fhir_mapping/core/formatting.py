"""Numbers and units as people write them: one way for cards, pages and reports."""

from __future__ import annotations

_UNITS = {
    "mm[Hg]": "mmHg", "Cel": "°C", "{score}": "", "[pH]": "", "{INR}": "", "10*3/uL": "×10³/µL", "/min": "per minute",
    "a": "years", "d": "days", "h": "hours", "1": "",
}  # fmt: skip


def format_unit(unit: str | None) -> str:
    """A UCUM code as a clinician writes it; what has no other way of writing stays itself.

    >>> format_unit("mm[Hg]"), format_unit("mmol/L"), format_unit("{score}")
    ('mmHg', 'mmol/L', '')
    """
    return "" if unit is None else _UNITS.get(unit, unit)


def format_number(value: float) -> str:
    """Three figures, below one two; never with an exponent, and never fewer than all digits before the point.

    >>> [format_number(value) for value in (12345, 138.2, 8.61, 0.774, 0.054, 0.00004, 0)]
    ['12345', '138', '8.61', '0.77', '0.054', '0.00004', '0']
    """
    if abs(value) >= 100 or not value:
        return f"{value:.0f}"
    if abs(value) >= 0.001:
        return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"
    return f"{value:.5f}"


def format_quantity(value: float, unit: str | None) -> str:
    """
    >>> format_quantity(1500, "mL"), format_quantity(15, "{score}"), format_quantity(1, "d")
    ('1500 mL', '15', '1 day')
    """
    number, words = format_number(value), format_unit(unit)
    if number == "1" and unit in {"a", "d", "h"}:
        words = words.removesuffix("s")
    return f"{number} {words}".strip()
