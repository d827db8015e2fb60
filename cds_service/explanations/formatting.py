"""Formats times and reason codes for the pages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from fhir_mapping.core import NOTE_REASONS, REASONS


def format_moment(moment: datetime | None) -> str:
    """`21 Nov 2026, 09:04 UTC`, or `time unknown`."""
    return "time unknown" if moment is None else f"{moment:%-d %b %Y, %H:%M} UTC"


def reason_words(texts: Iterable[str]) -> str:
    """Returns the reasons of a stay, without one that another says in more words.

    >>> reason_words(["Sepsis, unspecified organism", "Sepsis"]), reason_words(["Asthma", "COPD"])
    ('Sepsis, unspecified organism', 'Asthma; COPD')
    """
    listed = list(dict.fromkeys(texts))
    longer = {
        text: [other for other in listed if other != text and text.casefold() in other.casefold()] for text in listed
    }
    return "; ".join(text for text in listed if not longer[text])


def describe_reason(code: str) -> str:
    """Returns the description of a reason code (docs/reasons.md); an unknown code is returned unchanged.

    >>> describe_reason("none-found"), describe_reason("some-new-code")
    ('Requested, and there is none', 'some-new-code')
    """
    return REASONS.get(code) or NOTE_REASONS.get(code) or _MORE.get(code, code)


# Codes of risk_model that fhir_mapping does not have.
_MORE = {"unknown": "Not recorded"}


def format_age(hours: float) -> str:
    """
    >>> format_age(0.4), format_age(30), format_age(100)
    ('under an hour', '30 hours', '4 days')
    """
    if hours < 1:
        return "under an hour"
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"
