"""Read-only monitoring: alert burden, feedback, drift, calibration, metrics, audit events."""

from cds_service.monitoring.document import burden, watch

__all__ = [
    "burden",
    "watch",
]
