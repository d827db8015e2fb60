"""Launches from end to end, against a server that checks our side."""

from __future__ import annotations

import pytest

from tests.cds_service.smart.authority import Realm
from tests.cds_service.smart.browser import Browser


@pytest.mark.parametrize("registered", ["public", "symmetric", "asymmetric", "rsa"])
@pytest.mark.parametrize("launch", ["for-walter", None], ids=["from the EHR", "standalone"])
def test_a_launch_ends_in_a_session(
    browser: Browser, ehr: Realm, realms: dict[str, Realm], registered: str, launch: str | None
) -> None:
    answer = browser.launch(realms[registered], launch)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    session = browser.session(answer)
    assert (session.patient_id, session.encounter_id, session.user) == ("walter", "stay", "Practitioner/7")
    record = browser.chart(answer)
    assert record.subject_id == "walter"
