"""StoreError, and how every exception of the database and its driver becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError


class StoreError(Exception):
    """The database failed to read or write; no answer is given as if it had succeeded."""


class TooMuchFeedbackError(Exception):
    """A card has as much feedback as is stored for one; more of it is no answer to the card."""


@contextmanager
def opening(url: str) -> Iterator[None]:
    """As `named` for opening a database: the message also has its location and the first line of the driver's message.

    No patient data has been sent yet, so the driver's message contains none.
    """
    try:
        place = make_url(url)
    except ArgumentError:
        raise StoreError("the database cannot be opened: not a URL such as sqlite:////srv/riskcards.db") from None
    server = f"{place.host}:{place.port}/" if place.host and place.port else f"{place.host}/" if place.host else ""
    with named(f"the database {server}{place.database or ''} cannot be opened"):
        try:
            yield
        except DBAPIError as error:
            why = str(error.orig).partition("\n")[0]
            raise StoreError(f"the database {server}{place.database or ''} cannot be opened: {why}") from None


@contextmanager
def named(what: str) -> Iterator[None]:
    """Turns each exception of the database and its driver into a StoreError without its text: it may quote values."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"{what} ({error.__class__.__name__})") from None
    except ModuleNotFoundError as error:
        raise StoreError(f"{what}: {error.name} is not installed; pip install 'riskcards[scale]'") from None
