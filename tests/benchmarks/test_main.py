"""`python -m benchmarks`: lists the benchmarks, skips those without data, and reports failures."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme
from benchmarks.__main__ import commands, main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    return main()


def test_every_benchmark_exists_and_parses_its_arguments(tmp_path: Path) -> None:
    known = commands(tmp_path)
    beside = {path.stem for path in (readme.ROOT / "benchmarks").glob("*.py")}
    assert known.keys() <= beside
    for name, (_, arguments) in known.items():
        assert importlib.util.find_spec(f"benchmarks.{name}") is not None
        text = (readme.ROOT / "benchmarks" / f"{name}.py").read_text("utf-8")
        assert all(f'"{option}"' in text for option in arguments if option.startswith("--"))


def test_the_data_paths_exist(shared_data: Path) -> None:
    assert commands(shared_data)
    assert all(needs is None or needs.exists() for needs, _ in commands(shared_data).values())


def test_without_its_data_a_benchmark_is_skipped_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISKCARDS_DATA", str(tmp_path))
    monkeypatch.setattr(readme, "main", lambda: pytest.fail("README.md was rewritten without a new figure"))
    assert run(monkeypatch, "--only", "cinc2012") == 0
    assert "cinc2012: passed over" in capsys.readouterr().out


def test_a_failed_benchmark_is_an_error_and_leaves_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "diabetes-130").mkdir()
    (tmp_path / "diabetes-130" / "encounters.csv.gz").write_bytes(b"not gzip")
    monkeypatch.setenv("RISKCARDS_DATA", str(tmp_path))
    monkeypatch.setattr(readme, "main", lambda: pytest.fail("README.md was rewritten after a failure"))
    quiet = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: quiet(*a, **k, stderr=subprocess.DEVNULL))
    # The failing run must not touch the committed results.
    monkeypatch.setattr("benchmarks.__main__.RESULTS", tmp_path)
    assert run(monkeypatch, "--only", "diabetes130") == 1
    assert "failed: diabetes130" in capsys.readouterr().err
