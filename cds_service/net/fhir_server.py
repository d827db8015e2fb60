"""A FHIR server as fhirclient knows one, read through the gateway: checked addresses, a deadline, a cap on bytes.

fhirclient builds the searches and asks for them (`request_json` is all it needs of a server). Its own session is not
used, since it follows redirects to any address, and neither are its models: they refuse a whole page for one resource
that breaks FHIR, where the mapping keeps what can be used and says what cannot (decision 31).
"""

from __future__ import annotations

from typing import Any

from cds_service.net.gateway import Gateway


class GatewayFhirServer:
    """GatewayFhirServer(gateway, "https://ehr.example.org/fhir", token).search("Condition", patient="1", _count=500)

    Both methods raise GatewayError.
    """

    def __init__(self, gateway: Gateway, base_url: str, token: str | None = None) -> None:
        self.gateway = gateway
        self.base_url = base_url
        self.token = token

    def request_json(self, path: str, nosign: bool = False) -> dict[str, Any]:
        """The resource at `path`, relative to the base URL; `nosign=True` leaves the access token out."""
        return self.gateway.fetch(self.base_url, path, None if nosign else self.token)

    def search(self, resource_type: str, **parameters: str | int) -> dict[str, Any]:
        """The searchset of all its pages; one that was cut by a limit of the gateway keeps its `next` link."""
        return self.request_json(search_query(resource_type, **parameters))


def search_query(resource_type: str, **parameters: str | int) -> str:
    """A search as a relative URL, its values percent-encoded.

    >>> search_query("Condition", patient="a b", _count=500)
    'Condition?patient=a+b&_count=500'
    """
    from fhirclient.models.fhirelementfactory import FHIRElementFactory
    from fhirclient.models.fhirsearch import FHIRSearch

    model = type(FHIRElementFactory.instantiate(resource_type, None))
    query: str = FHIRSearch(model, {name: str(value) for name, value in parameters.items()}).construct()
    return query
