"""The supply chain (C1): what is installed is pinned by hash and listed in a bill of materials; the wheel rebuilds."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LOCKS = ("runtime", "dev")


def sbom() -> Any:
    spec = importlib.util.spec_from_file_location("sbom", REPOSITORY / ".ci" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_version_and_hashes_and_is_in_the_bill(lock: str) -> None:
    text = (REPOSITORY / "requirements" / f"{lock}.txt").read_text("utf-8")
    document = sbom().bill(text)
    named = set(re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*[=<>@]", text, re.MULTILINE))
    assert {component["name"] for component in document["components"]} == {name.lower() for name in named}
    assert document["serialNumber"] == sbom().bill(text)["serialNumber"]
    assert all(component["hashes"] for component in document["components"])


def test_the_bill_is_read_by_the_cyclonedx_library() -> None:
    """The CycloneDX project's own library reads what we write."""
    from cyclonedx.model.bom import Bom

    document = sbom().bill("flask==3.1.0 \\\n    --hash=sha256:" + "a" * 64 + "\n")
    bom = Bom.from_json(json.loads(json.dumps(document)))  # type: ignore[attr-defined]
    assert [str(component.purl) for component in bom.components] == ["pkg:pypi/flask@3.1.0"]


@pytest.mark.parametrize("lock", ["", "flask==3.1.0\n"])
def test_a_package_without_hash_is_an_error(lock: str) -> None:
    with pytest.raises(ValueError, match="no hash"):
        sbom().bill(lock)


def test_the_wheel_built_twice_is_the_same() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    command = [sys.executable, str(REPOSITORY / ".ci" / "wheel_twice.py")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
