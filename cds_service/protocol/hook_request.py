"""Requests to our services: checked by `cds_hooks`; the Bundles of a prefetch keep their resources as bytes."""

from __future__ import annotations

import cds_hooks
from cds_hooks import HookRequest
from cds_service.protocol.services import Service
from cds_service.protocol.strict_json import parse_prefetch


def open_request(body: bytes, service: Service) -> HookRequest:
    """A request with everything checked but its prefetch, which may still be unparsed.

    Raises MalformedRequestError, ForbiddenError.
    """
    return cds_hooks.parse_request(body, service.hook, service.required_context, lazy=True)


def read_prefetch(request: HookRequest) -> HookRequest:
    """The request with its prefetch parsed and checked. Raises MalformedRequestError, TooLargeError."""
    return request.read_prefetch(parse_prefetch)


def parse_request(body: bytes, service: Service) -> HookRequest:
    """A checked request for `service`, with its prefetch.

    Raises MalformedRequestError, ForbiddenError, TooLargeError.
    """
    return read_prefetch(open_request(body, service))
