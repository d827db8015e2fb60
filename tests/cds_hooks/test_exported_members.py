"""The public face: sorted, complete, and importable without Flask or requests."""

from __future__ import annotations

import subprocess
import sys

import cds_hooks


def test_exported_members_are_sorted_and_exist() -> None:
    constants = [name for name in cds_hooks.__all__ if name.isupper()]
    classes = [name for name in cds_hooks.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in cds_hooks.__all__ if name[0].islower()]
    assert cds_hooks.__all__ == sorted(constants) + sorted(classes) + sorted(functions)
    assert all(hasattr(cds_hooks, name) for name in cds_hooks.__all__)


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    from cds_hooks import errors

    named = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert named <= set(cds_hooks.__all__)
    assert named
    assert all(name in str(errors.__doc__) for name in named)


def test_neither_flask_nor_requests_is_imported_with_the_package() -> None:
    code = "import sys, cds_hooks; print([m for m in ('flask', 'requests', 'fhir_mapping') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
