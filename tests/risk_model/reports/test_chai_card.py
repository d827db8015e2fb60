"""The CHAI card validates against CHAI's own schemas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from risk_model import TASKS, model_card
from risk_model.models import shipped_folder
from risk_model.reports.chai_card import VERSIONS

etree = pytest.importorskip("lxml.etree")
STANDARDS = Path(__file__).resolve().parents[4] / "shared" / "standards"
pytestmark = pytest.mark.skipif(not (STANDARDS / "chai-v0.2.xsd").is_file(), reason="CHAI's schemas are not at hand")


class _Signatures(etree.Resolver):  # type: ignore[misc,name-defined]
    """The W3C's schema of signatures, which both schemas import."""

    def resolve(self, url: str, _public: str, context: Any) -> Any:
        return self.resolve_filename(str(STANDARDS / "xmldsig-stub.xsd"), context) if "xmldsig" in url else None


def schema(version: str) -> Any:
    parser = etree.XMLParser()
    parser.resolvers.add(_Signatures())
    return etree.XMLSchema(etree.parse(str(STANDARDS / f"chai-{version}.xsd"), parser))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("task", TASKS)
def test_a_card_is_valid(task: str, version: str) -> None:
    card = model_card(shipped_folder(task))
    schema(version).assertValid(etree.fromstring(card.to_chai_xml(version).encode()))


@pytest.mark.parametrize("version", VERSIONS)
def test_any_text_is_valid(version: str) -> None:
    card = model_card(shipped_folder("readmission_30d"))
    odd = {group: dict.fromkeys(texts, 'a "b" <c> & \u00e9') for group, texts in card.attributes.items()}
    card = replace(card, attributes=odd, title="<T>", version="1+local.1.ab12")
    schema(version).assertValid(etree.fromstring(card.to_chai_xml(version).encode()))


def test_the_schema_refuses_another_card() -> None:
    assert not schema("v0.2").validate(etree.fromstring(b"<AppliedModelCard/>"))


def test_an_unknown_version_is_named() -> None:
    with pytest.raises(ValueError, match=r"known are v0\.2"):
        model_card(shipped_folder("readmission_30d")).to_chai_xml("v9")
