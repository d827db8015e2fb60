"""SMART on FHIR: app launches, sessions, charts read with the user's token, backend services."""

from cds_service.smart.session import SmartSession, chart_of, open_session

__all__ = [
    "SmartSession",
    "chart_of",
    "open_session",
]
