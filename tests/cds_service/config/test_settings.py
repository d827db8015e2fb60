"""Settings: each documented, unknown ones refused, values converted."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from cds_service.config.settings import Settings, SettingsError

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def test_the_guide_lists_exactly_the_settings() -> None:
    documented = set(re.findall(r"^\| `RISKCARDS_(\w+)`", GUIDE.read_text("utf-8"), re.MULTILINE))
    assert documented == {field.name.upper() for field in fields(Settings)}


@pytest.mark.parametrize("name", ["NCBI_API_KEY", "EUTILS_URL", "DATA", "CHROMIUM"])
def test_settings_of_other_programs_are_documented_and_ignored(name: str) -> None:
    assert f"`RISKCARDS_{name}`" in GUIDE.read_text("utf-8")
    assert Settings.from_environment({f"RISKCARDS_{name}": "x"}) == Settings.from_environment({})


def test_an_unknown_setting_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="RISKCARDS_PUBLIC_URL"):
        Settings.from_environment({"RISKCARDS_PUBLIK_URL": "https://x.example"})


@pytest.mark.parametrize(
    ("name", "value"), [("PUBLIC_URL", "ftp://x"), ("READMISSION_THRESHOLD", "high"), ("MAX_BODY_BYTES", "10 MB")]
)
def test_a_value_that_cannot_be_read_is_an_error(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environment({f"RISKCARDS_{name}": value})


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "riskcards.json"
    file.write_text(json.dumps({"public_url": "https://file.example", "fhir_servers": ["https://a", "https://b"]}))
    settings = Settings.from_environment({"RISKCARDS_PUBLIC_URL": "https://env.example"}, file)
    assert settings.public_url == "https://env.example"
    assert settings.fhir_servers == ("https://a", "https://b")


@pytest.mark.parametrize("content", ["[]", "{", '{"nothing": 1}'])
def test_an_invalid_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "riskcards.json"
    file.write_text(content)
    with pytest.raises(SettingsError):
        Settings.from_environment({}, file)
