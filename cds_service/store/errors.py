"""StoreError, and how every exception of the database and its driver becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import SQLAlchemyError


class StoreError(Exception):
    """The database did not take or give what it was asked; nothing was answered as if it had."""


@contextmanager
def named(what: str) -> Iterator[None]:
    """Every exception of the database and its driver becomes ours; its text may quote values and is left out."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"{what} ({error.__class__.__name__})") from None
    except ModuleNotFoundError as error:
        raise StoreError(f"{what}: {error.name} is not installed; pip install 'riskcards[scale]'") from None
