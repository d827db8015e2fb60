"""Sealed entries on both databases: taken once, gone when expired, unreadable to whoever holds the database."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from cds_service.oauth.errors import SmartSetupError
from cds_service.oauth.vault import Vault, fingerprint, open_cipher
from cds_service.store.store import Store
from tests.cds_service.store.conftest import postgres, store, url

__all__ = ["postgres", "store", "url"]
CANARY = "canary-token"


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


@pytest.fixture
def vault(store: Store, tmp_path: Path) -> Vault:
    return Vault(store.sealed, open_cipher(tmp_path / "session.key"))


def test_an_entry_is_kept_changed_and_dropped(vault: Vault) -> None:
    assert vault.put("session", "s", {"token": CANARY}, soon())
    assert not vault.put("session", "s", {"token": "another"}, soon())
    assert vault.get("session", "s") == {"token": CANARY}
    assert vault.get("launch", "s") is None
    assert vault.replace("session", "s", {"token": "new"}, soon())
    assert vault.get("session", "s") == {"token": "new"}
    vault.drop("session", "s")
    assert vault.get("session", "s") is None
    assert not vault.replace("session", "s", {}, soon())


def test_of_many_that_take_one_gets_it(vault: Vault) -> None:
    vault.put("launch", "state", {"n": 1}, soon())
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: vault.take("launch", "state"), range(24)))
    assert [found for found in taken if found is not None] == [{"n": 1}]


def test_what_has_expired_is_gone_before_anybody_removes_it(vault: Vault) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    vault.put("launch", "old", {"n": 1}, past)
    assert vault.get("launch", "old") is None
    assert vault.take("launch", "old") is None
    assert not vault.replace("launch", "old", {"n": 2}, soon())
    assert vault.put("launch", "old", {"n": 3}, soon()), "an expired entry does not keep its place"


@pytest.mark.parametrize("way", ["the next entry", "retention"])
def test_expired_entries_are_removed(vault: Vault, store: Store, way: str) -> None:
    vault.put("launch", "old", {"n": 1}, datetime.now(UTC) - timedelta(seconds=1))
    if way == "retention":
        store.purge(datetime.now(UTC) - timedelta(days=1))
    else:
        vault.put("launch", "new", {"n": 2}, soon())
    with store.sealed.engine.begin() as connection:
        names = connection.execute(text("SELECT fingerprint FROM sealed")).scalars().all()
    assert fingerprint("old") not in names


def test_the_database_without_the_key_reveals_nothing_and_cannot_be_rearranged(
    vault: Vault, store: Store, tmp_path: Path
) -> None:
    vault.put("session", "mine", {"token": CANARY}, soon())
    vault.put("session", "yours", {"token": "t2"}, soon())
    with store.sealed.engine.begin() as connection:
        rows = str(connection.execute(text("SELECT * FROM sealed")).all())
        assert CANARY not in rows
        assert "mine" not in rows
        connection.execute(
            text("UPDATE sealed SET body = (SELECT body FROM sealed WHERE fingerprint = :a) WHERE fingerprint = :b"),
            {"a": fingerprint("mine"), "b": fingerprint("yours")},
        )
    assert vault.get("session", "mine") == {"token": CANARY}
    assert vault.get("session", "yours") is None, "an entry that was moved to another's place is none"
    foreign = Vault(store.sealed, open_cipher(tmp_path / "another.key"))
    assert foreign.get("session", "mine") is None


def test_the_key_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "session.key"
    with ThreadPoolExecutor(8) as pool:
        ciphers = list(pool.map(lambda _: open_cipher(path), range(16)))
    token = ciphers[0].encrypt(b"x")
    assert {cipher.decrypt(token) for cipher in ciphers} == {b"x"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["session.key"]
    rotated = Fernet.generate_key().decode() + "\n" + path.read_text()
    path.write_text(rotated)
    assert open_cipher(path).decrypt(token) == b"x"


@pytest.mark.parametrize(
    ("content", "mode", "word"), [("", 0o600, "Fernet"), ("short", 0o600, "Fernet"), ("", 0o644, "chmod")]
)
def test_unusable_keys_are_reported(tmp_path: Path, content: str, mode: int, word: str) -> None:
    path = tmp_path / "session.key"
    path.write_text(content)
    os.chmod(path, mode)
    with pytest.raises(SmartSetupError, match=word):
        open_cipher(path)
