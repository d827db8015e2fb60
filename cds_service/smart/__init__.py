"""SMART on FHIR: the app is launched from an EHR, or by itself, and reads one patient's chart as its user may.

    GET /launch -> the EHR's authorization server -> GET /smart/callback -> /app/{session}/...

The pages under /app are built on `session.py`: `open_session`, `chart_of`, `page_headers`.
"""

from cds_service.smart.errors import SmartError
from cds_service.smart.session import SmartSession, chart_of, open_session

__all__ = ["SmartError", "SmartSession", "chart_of", "open_session"]
