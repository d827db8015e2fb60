"""Categories of `admitSource` and `dischargeDisposition` codes.

Covers HL7 admit-source and discharge-disposition (https://terminology.hl7.org), NUBC point of origin and patient
discharge status, and the texts of MIMIC-IV. Codes are compared in lower case, without leading zeros.
"""

from __future__ import annotations

from fhir_mapping.core.values import Stay

_DISPOSITIONS = {
    "died": {"exp", "20", "40", "41", "42", "died", "expired", "dead"},
    "against_advice": {"aadvice", "7", "against advice"},
    "hospice": {"hosp", "50", "51", "hospice"},
    "transfer": {"other-hcf", "2", "5", "43", "66", "82", "85", "94", "acute hospital"},
    "psychiatric": {"psy", "65", "93", "psych facility"},
    "facility": {
        "snf", "rehab", "long", "3", "4", "61", "62", "63", "64", "83", "84", "90", "91", "92",
        "skilled nursing facility", "chronic/long term acute care", "assisted living", "other facility",
        "healthcare facility",
    },
    "home": {"home", "alt-home", "1", "6", "home health care", "81", "86"},
}  # fmt: skip
_SOURCES = {
    "emergency": {"emd", "7", "emergency room", "ambulance"},
    "hospital_transfer": {"hosp-trans", "4", "transfer from hospital"},
    "facility": {"nursing", "rehab", "5", "6", "f", "transfer from skilled nursing facility"},
    "psychiatric": {"psych", "internal transfer to or from psych"},
    "within_hospital": {"d", "e", "pacu", "procedure site"},
    "referral": {"gp", "mp", "outp", "2", "physician referral", "clinic referral"},
    "home": {"1", "walk-in/self referral", "walk in"},
    "born": {"born"},
}
DISPOSITIONS = tuple(_DISPOSITIONS)
ADMISSION_SOURCES = tuple(_SOURCES)
_DISPOSITION_OF = {code: meaning for meaning, codes in _DISPOSITIONS.items() for code in codes}
_SOURCE_OF = {code: meaning for meaning, codes in _SOURCES.items() for code in codes}


def disposition(stay: Stay) -> str | None:
    """Returns one of `DISPOSITIONS`, or None if the discharge disposition is not coded or its code is unknown."""
    code = stay.discharge_disposition
    return None if code is None else _DISPOSITION_OF.get(_normalised(code))


def admission_source(stay: Stay) -> str | None:
    """Returns one of `ADMISSION_SOURCES`, or None if the admission source is not coded or its code is unknown."""
    code = stay.admission_source
    return None if code is None else _SOURCE_OF.get(_normalised(code))


def _normalised(code: str) -> str:
    return code.strip().casefold().lstrip("0")
