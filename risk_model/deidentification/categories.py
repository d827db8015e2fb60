"""The identifiers that are removed, by the list of the HIPAA Safe Harbor method, 45 CFR 164.514(b)(2)(i) (A) to (R)."""

from __future__ import annotations

from enum import StrEnum


class Category(StrEnum):
    """What an identifier is. The value is the word of the placeholder that takes its place: `[NAME-1]`."""

    NAME = "NAME"
    PLACE = "PLACE"
    DATE = "DATE"
    AGE = "AGE"
    PHONE = "PHONE"
    FAX = "FAX"
    EMAIL = "EMAIL"
    SSN = "SSN"
    RECORD = "RECORD"
    PLAN = "PLAN"
    ACCOUNT = "ACCOUNT"
    LICENCE = "LICENCE"
    VEHICLE = "VEHICLE"
    DEVICE = "DEVICE"
    URL = "URL"
    IP = "IP"
    NUMBER = "NUMBER"


SAFE_HARBOR: tuple[tuple[str, str, tuple[Category, ...], str, str], ...] = (
    ("A", "names", (Category.NAME,), "placeholder", "not exported"),
    ("B", "geographic subdivisions smaller than a state", (Category.PLACE,),
     "placeholder; states and countries stay, ZIP codes go whole", "not exported"),
    ("C", "dates other than the year, and ages over 89", (Category.DATE, Category.AGE),
     "shifted by the patient's offset; a date of birth, a holiday and what is no date of a calendar: placeholder; "
     "ages over 89: `90+`", "shifted by the patient's offset; ages over 89 become 90"),
    ("D", "telephone numbers", (Category.PHONE,), "placeholder", "not exported"),
    ("E", "fax numbers", (Category.FAX,), "placeholder", "not exported"),
    ("F", "e-mail addresses", (Category.EMAIL,), "placeholder", "not exported"),
    ("G", "social security numbers", (Category.SSN,), "placeholder", "not exported"),
    ("H", "medical record numbers", (Category.RECORD,), "placeholder",
     "ids of patient and resources: keyed pseudonyms"),
    ("I", "health plan beneficiary numbers", (Category.PLAN,), "placeholder", "not exported"),
    ("J", "account numbers", (Category.ACCOUNT,), "placeholder", "not exported"),
    ("K", "certificate and licence numbers", (Category.LICENCE,), "placeholder", "not exported"),
    ("L", "vehicle identifiers", (Category.VEHICLE,), "placeholder", "not exported"),
    ("M", "device identifiers and serial numbers", (Category.DEVICE,), "placeholder", "not exported"),
    ("N", "URLs", (Category.URL,), "placeholder", "not exported; code systems of the site's own: keyed pseudonyms"),
    ("O", "IP addresses", (Category.IP,), "placeholder", "not exported"),
    ("P", "biometric identifiers", (), "none in text", "not exported"),
    ("Q", "full-face photographs", (), "none in text", "not exported: attachments are read as text or not at all"),
    ("R", "any other unique number, characteristic or code", (Category.NUMBER,),
     "placeholder for numbers of seven digits and more and for codes of letters and five digits; what makes a person "
     "known in other words (an office, an event in the news) is not recognised", "not exported"),
)  # fmt: skip
"""Letter, identifier, categories, what is done with it in a note, and in structured fields."""
