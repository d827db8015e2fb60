"""Public names that are imported when they are first used, so that a face costs a serving process nothing (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose public names lie in `modules` (name -> module); each is imported once.

    >>> get = lazy_exports("artifact_store", {"Fraction": "fractions"})
    >>> get("Fraction")(1, 2)
    Fraction(1, 2)
    >>> get("Decimal")
    Traceback (most recent call last):
    AttributeError: module 'artifact_store' has no attribute 'Decimal'
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
