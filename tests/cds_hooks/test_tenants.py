"""The tenant of a client: one of those configured for it, and none where none are."""

from __future__ import annotations

import pytest

from cds_hooks import TokenRefusedError, Trust, TrustedIssuer
from tests.cds_service.access.ehr import ISSUER, PUBLIC, Ehr

URL = f"{PUBLIC}/cds-services/x"
EHR = Ehr()


@pytest.mark.parametrize(
    ("tenants", "claimed", "expected"),
    [
        ((), None, None),
        ((), "north", None),
        ((), "", None),
        (("north",), "north", "north"),
        (("north", "south"), "south", "south"),
        (("north", "south"), "east", "refused"),
        (("north", "south"), None, "refused"),
        (("north", "south"), "", "refused"),
    ],
)
def test_a_client_names_no_tenant_but_its_own(
    tenants: tuple[str, ...], claimed: str | None, expected: str | None
) -> None:
    """A client without tenants cannot name one: its answers would be stored, and modes read, as another site's."""
    trust = Trust(PUBLIC, [TrustedIssuer(ISSUER, jwks=EHR.jwks(), tenants=tenants)])
    given = {} if claimed is None else {"tenant": claimed}
    header = f"Bearer {EHR.token(URL, **given)}"
    if expected == "refused":
        with pytest.raises(TokenRefusedError) as caught:
            trust.verify(header, URL)
        assert caught.value.reason == "tenant"
    else:
        assert trust.verify(header, URL).tenant == expected
