"""`Retry-After` of an answer (RFC 9110, section 10.2.3): seconds, or a date."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after(headers: Mapping[str, str], *, most: float) -> float | None:
    """Returns the seconds to wait, at most `most`; None where the server names none that can be read.

    A date is compared with the server's own `Date`, since clocks differ.

    >>> retry_after({"retry-after": "30"}, most=120), retry_after({"retry-after": "-5"}, most=120)
    (30.0, 0.0)
    >>> later = {"date": "Tue, 01 Dec 2026 08:00:00 GMT", "retry-after": "Tue, 01 Dec 2026 08:01:00 GMT"}
    >>> retry_after(later, most=120), retry_after({"retry-after": "soon"}, most=120), retry_after({}, most=120)
    (60.0, None, None)
    """
    given = headers.get("retry-after", "").strip()
    try:
        seconds = float(given)
    except ValueError:
        until = http_date(given)
        if until is None:
            return None
        seconds = (until - (http_date(headers.get("date", "")) or datetime.now(UTC))).total_seconds()
    return min(max(0.0, seconds), most) if seconds == seconds else None


def http_date(text: str) -> datetime | None:
    """Returns the time of an HTTP date; None for anything else.

    >>> http_date("Tue, 01 Dec 2026 08:00:00 GMT")
    datetime.datetime(2026, 12, 1, 8, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
