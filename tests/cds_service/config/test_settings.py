"""Settings: each documented, unknown ones refused, values converted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cds_service.config.reference import settings_table
from cds_service.config.settings import Settings
from cds_service.config.sources import SettingsError
from cds_service.config.values import expected, extra

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "settings.md"


def test_the_guide_has_the_table_of_the_definition() -> None:
    assert settings_table() in GUIDE.read_text("utf-8")


def test_every_setting_says_what_it_takes_and_what_it_does() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert expected(field), name
        numeric = field.annotation in (int, float)
        assert not numeric or (extra(field, "unit") and len(field.metadata) >= 2), f"{name}: unit and range"


@pytest.mark.parametrize("name", ["NCBI_API_KEY", "EUTILS_URL", "DATA", "CHROMIUM"])
def test_settings_of_other_programs_are_documented_and_ignored(name: str) -> None:
    assert f"`RISKCARDS_{name}`" in GUIDE.read_text("utf-8")
    assert Settings.from_environment({f"RISKCARDS_{name}": "x"}) == Settings.from_environment({})


def test_an_unknown_setting_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(SettingsError, match="RISKCARDS_PUBLIC_URL"):
        Settings.from_environment({"RISKCARDS_PUBLIK_URL": "https://x.example"})


@pytest.mark.parametrize("name", ["riskcards_mode", "Riskcards_Mode", "RISKCARDS_mode", "RiskCards_MODE"])
def test_a_variable_in_another_case_is_an_error(name: str) -> None:
    """It was ignored: with `riskcards_mode=off` the service was live."""
    with pytest.raises(SettingsError, match="did you mean RISKCARDS_MODE"):
        Settings.from_environment({name: "off"})


# Each was taken once, or is like one that was: the service started and did something else than was meant.
REFUSED = [
    ("PUBLIC_URL", "ftp://x"), ("PUBLIC_URL", ""), ("PUBLIC_URL", "https://"), ("PUBLIC_URL", "https://u:p@x.example"),
    ("PUBLIC_URL", "https://x.example/?a=b"), ("PUBLIC_URL", "https://x.example:port"),
    ("PUBLIC_URL", "https://x.example/a/../b"), ("PUBLIC_URL", "https://x..example"), ("PUBLIC_URL", "https://./r"),
    ("DATABASE_URL", "sqlite://cards.db"), ("DATABASE_URL", "sqlite+pysqlcipher:///cards.db"),
    ("DATABASE_URL", "postgresql+asyncpg://db.example.org/cards"), ("DATABASE_URL", "sqlite:///a\nb.db"),
    ("DATABASE_KEY_FILE", "/etc/key\0"), ("CDS_CLIENTS", "clients\n.json"), ("RUN_FOLDER", "/run/\u202eks"),
    ("DEADLINE_SECONDS", "1e-9"), ("FETCH_SECONDS", "0.001"), ("STORE_SECONDS", "1e-300"), ("STORE_SECONDS", "1e400"),
    ("DATABASE_URL", "/srv/riskcards.db"), ("DATABASE_URL", "mysql://db.example.org/cards"),
    ("READMISSION_THRESHOLD", "high"), ("READMISSION_THRESHOLD", "15"), ("READMISSION_THRESHOLD", "nan"),
    ("MORTALITY_THRESHOLD", "0"), ("MORTALITY_THRESHOLD", "-0.1"), ("MORTALITY_THRESHOLD", "inf"),
    ("THRESHOLDS", "hospital-risk.readmission_30d=15"), ("THRESHOLDS", "hospital-risk.readmission_30d=nan"),
    ("THRESHOLDS", "hospital-risk.readmission_30d"), ("THRESHOLDS", "hospital-risk.sepsis=0.2"),
    ("THRESHOLDS", "hospital-risk.readmission_30d=0.1,hospital-risk.readmission_30d=0.2"),
    ("WARNINGS_PER_100", "-1"), ("WARNINGS_PER_100", "101"), ("WARNINGS_PER_100", "nan"),
    ("SNOOZE_HOURS", "100"), ("SNOOZE_HOURS", "-1"), ("SNOOZE_HOURS", "nan"),
    ("SNOOZE_DELTA", "0"), ("SNOOZE_DELTA", "5"), ("SNOOZE_DELTA", "nan"),
    ("MODE", "on"), ("MODE", ""),
    ("PILOT_USERS", "17"), ("PILOT_USERS", "Practitioner/"), ("PILOT_USERS", "Patient/1"),
    ("ROLES", "practitioner"), ("ROLES", ""), ("ROLES", "Practitioner,Nurse"),
    ("MAX_BODY_BYTES", "10 MB"), ("MAX_BODY_BYTES", "0"), ("MAX_BODY_BYTES", "-1"),
    ("MAX_HELD_BYTES", "0"), ("MAX_HELD_BYTES", "2048"),
    ("MAX_ACTIVE", "0"), ("MAX_ACTIVE", "-1"), ("MAX_ACTIVE", "1.5"), ("MAX_ACTIVE", "1000"),
    ("MAX_WAITING", "-1"), ("REQUESTS_PER_MINUTE", "-1"), ("REQUESTS_PER_MINUTE", "nan"),
    ("FETCH_SECONDS", "0"), ("FETCH_SECONDS", "-3"), ("FETCH_SECONDS", "nan"), ("FETCH_SECONDS", "inf"),
    ("DEADLINE_SECONDS", "0"), ("DEADLINE_SECONDS", "nan"), ("DEADLINE_SECONDS", "100000"),
    ("STORE_SECONDS", "0"), ("STORE_SECONDS", "nan"), ("REMEMBER_SECONDS", "-1"), ("REMEMBER_SECONDS", "inf"),
    ("NOTE_READER_SECONDS", "0"), ("NOTE_READER_SECONDS", "nan"), ("STAGE1_MODELS", "rules"),
    ("STAGE1_MODELS", "readmission_30d=smollm2,readmission_30d=smollm2"),
    ("LOG_LEVEL", "chatty"), ("LOG_LEVEL", "10"), ("OPEN_DISCOVERY", "maybe"), ("OPEN_DISCOVERY", ""),
    ("FHIR_SERVERS", "ehr.example.org/fhir"), ("FHIR_SERVERS", "https://a.example, b"),
    ("FHIR_SERVERS", "https://a.example/x/../y"),
    ("ALLOWED_ORIGINS", "https://*.example.org"),
    ("ALLOWED_ORIGINS", "ehr.example.org"), ("ALLOWED_ORIGINS", "https://ehr.example.org/app"),
    ("PRIVATE_NETWORKS", "10.0.0.0/99"), ("PRIVATE_NETWORKS", "10.0.0.1/8"),
    ("LEVEL_FOLLOWS", "score"),
    ("TIME_ZONE", "Berlin"),
    ("TIME_ZONE", ""),
    ("SITE_MAP", "/nowhere/map.yaml"), ("SUGGESTIONS", "/nowhere/suggestions.yaml"),
]  # fmt: skip
TAKEN = [
    ("READMISSION_THRESHOLD", "1", "readmission_threshold", 1.0), ("WARNINGS_PER_100", "0", "warnings_per_100", 0.0),
    ("SNOOZE_HOURS", "72", "snooze_hours", 72.0), ("MAX_WAITING", "0", "max_waiting", 0),
    ("REMEMBER_SECONDS", "0", "remember_seconds", 0.0), ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("OPEN_DISCOVERY", "Yes", "open_discovery", True), ("OPEN_DISCOVERY", "0", "open_discovery", False),
    ("ALLOWED_ORIGINS", "", "allowed_origins", ()), ("ROLES", "Patient, ", "roles", ("Patient",)),
    ("ALLOWED_ORIGINS", "https://a.example:8443", "allowed_origins", ("https://a.example:8443",)),
    ("PUBLIC_URL", "https://x.example/risk", "public_url", "https://x.example/risk"),
    ("DATABASE_URL", "postgres://u:p@db.example/c", "database_url", "postgres://u:p@db.example/c"),
    ("PILOT_USERS", "Practitioner/17", "pilot_users", ("Practitioner/17",)),
    ("PUBLIC_URL", "https://[::1]:8080/a", "public_url", "https://[::1]:8080/a"),
    ("DATABASE_URL", "sqlite:///r.db", "database_url", "sqlite:///r.db"),
    ("CDS_CLIENTS", "/etc/é clients.json", "cds_clients", "/etc/é clients.json"),
    ("DEADLINE_SECONDS", "0.1", "deadline_seconds", 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_value_outside_its_range_is_an_error_that_names_the_setting(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"RISKCARDS_{name}"):
        Settings.from_environment({f"RISKCARDS_{name}": value})


@pytest.mark.parametrize(("name", "value", "field", "expected_value"), TAKEN)
def test_values_at_the_ends_of_a_range_are_taken(name: str, value: str, field: str, expected_value: object) -> None:
    assert getattr(Settings.from_environment({f"RISKCARDS_{name}": value}), field) == expected_value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("readmission_threshold", True), ("readmission_threshold", None), ("max_active", [1]), ("max_active", "two"),
        ("roles", 5), ("roles", [1]), ("roles", {"Practitioner": 1}), ("public_url", 5), ("mode", False),
        ("deadline_seconds", float("nan")), ("thresholds", {"hospital-risk.readmission_30d": 0.2}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_in_the_file_is_an_error(tmp_path: Path, name: str, value: object) -> None:
    file = tmp_path / "riskcards.json"
    file.write_text(json.dumps({name: value}))
    with pytest.raises(SettingsError, match=f"RISKCARDS_{name.upper()}"):
        Settings.from_environment({}, file)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"RISKCARDS_MAX_ACTIVE": "0", "RISKCARDS_LOG_LEVEL": "chatty"})
    assert {line.partition(":")[0] for line in str(raised.value).splitlines()} == {
        "RISKCARDS_MAX_ACTIVE", "RISKCARDS_LOG_LEVEL"
    }  # fmt: skip


def test_a_password_in_a_refused_database_url_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"RISKCARDS_DATABASE_URL": "mysql://me:s3cret@db.example/cards"})
    assert "s3cret" not in str(raised.value)


def test_changed_settings_are_checked_too() -> None:
    assert Settings(mode="silent").with_changes(max_active=2).mode == "silent"
    with pytest.raises(SettingsError, match="RISKCARDS_MAX_ACTIVE"):
        Settings().with_changes(max_active=0)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "riskcards.json"
    file.write_text(json.dumps({"public_url": "https://file.example", "fhir_servers": ["https://a", "https://b"]}))
    settings = Settings.from_environment({"RISKCARDS_PUBLIC_URL": "https://env.example"}, file)
    assert settings.public_url == "https://env.example"
    assert settings.fhir_servers == ("https://a", "https://b")


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"nothing": 1}',
        '{"mode": "off", "mode": "live"}',
        "\xff",
        '{"mode": "off", "MODE": "live"}',
        '{"mode": "off", "Mode": "off"}',
        "\xef\xbb\xbf{}",
        '{"snooze_hours": Infinity}',
        '{"mode": "off"} x',
    ],
)
def test_an_invalid_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "riskcards.json"
    file.write_text(content, "latin-1")
    with pytest.raises(SettingsError):
        Settings.from_environment({}, file)


def test_a_pilot_without_users_is_allowed_and_warned_of() -> None:
    assert "PILOT_USERS" in Settings(mode="pilot").warnings()[0]
    assert Settings(mode="pilot", pilot_users=("Practitioner/17",)).warnings() == ()


@pytest.mark.parametrize("name", ["private_networks", "trusted_proxies"])
def test_every_address_as_a_network_is_warned_of(name: str) -> None:
    for network in ("0.0.0.0/0", "::/0"):
        assert name.upper() in Settings(**{name: (network,)}).warnings()[0]
    assert Settings(**{name: ("10.0.0.0/8",)}).warnings() == ()
