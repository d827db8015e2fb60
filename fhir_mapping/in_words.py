"""Numbers and units as people write them: one way for cards, pages and reports."""

from __future__ import annotations

_UNITS = {
    "mm[Hg]": "mmHg", "Cel": "°C", "{score}": "", "[pH]": "", "{INR}": "", "10*3/uL": "×10³/µL", "/min": "per minute",
    "a": "years", "d": "days", "h": "hours", "1": "",
}  # fmt: skip


def unit_in_words(unit: str | None) -> str:
    """A UCUM code as a clinician writes it; what has no other way of writing stays itself.

    >>> unit_in_words("mm[Hg]"), unit_in_words("mmol/L"), unit_in_words("{score}")
    ('mmHg', 'mmol/L', '')
    """
    return "" if unit is None else _UNITS.get(unit, unit)


def number_in_words(value: float) -> str:
    """Three figures, below one two; never with an exponent, and never fewer than all digits before the point.

    >>> [number_in_words(value) for value in (12345, 138.2, 8.61, 0.774, 0.054, 0.00004, 0)]
    ['12345', '138', '8.61', '0.77', '0.054', '0.00004', '0']
    """
    if abs(value) >= 100 or not value:
        return f"{value:.0f}"
    if abs(value) >= 0.001:
        return f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"
    return f"{value:.5f}"


def quantity_in_words(value: float, unit: str | None) -> str:
    """
    >>> quantity_in_words(1500, "mL"), quantity_in_words(15, "{score}"), quantity_in_words(1, "d")
    ('1500 mL', '15', '1 day')
    """
    number, words = number_in_words(value), unit_in_words(unit)
    if number == "1" and unit in {"a", "d", "h"}:
        words = words.removesuffix("s")
    return f"{number} {words}".strip()
