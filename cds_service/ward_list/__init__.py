"""The ward list: a user's inpatients by the risk of one named outcome, as a user-level SMART app."""

from cds_service.ward_list.routes import ward_list_pages

__all__ = [
    "ward_list_pages",
]
