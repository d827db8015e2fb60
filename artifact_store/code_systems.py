"""Names of code systems: every URI, OID and alias in use, and the one canonical URI of each system.

The only table of its kind. National modifications of ICD-10 and of ATC keep the categories and codes of the WHO, which
is all that is read of them, so they count as names of the WHO's system.
"""

from __future__ import annotations

from functools import lru_cache


class CodeSystem:
    """Canonical URIs of code systems."""

    LOINC = "http://loinc.org"
    SNOMED = "http://snomed.info/sct"
    ICD10 = "http://hl7.org/fhir/sid/icd-10"
    ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
    ICD10PCS = "http://www.cms.gov/Medicare/Coding/ICD10"
    ICD9CM = "http://hl7.org/fhir/sid/icd-9-cm"
    ICD9CM_PROCEDURE = "http://hl7.org/fhir/sid/icd-9-cm/procedure"
    RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
    ATC = "http://www.whocc.no/atc"
    NDC = "http://hl7.org/fhir/sid/ndc"
    MESH = "http://id.nlm.nih.gov/mesh"
    NPU = "urn:oid:1.2.208.176.2.1"
    DMD = "https://dmd.nhs.uk"
    UCUM = "http://unitsofmeasure.org"
    ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    DATA_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
    NULL_FLAVOR = "http://terminology.hl7.org/CodeSystem/v3-NullFlavor"


# Other names of each system: without scheme, `urn:oid:`, version and trailing slash, in lower case. OIDs are those of
# the HL7 registry and of the national registries; the others occur in published profiles and in real exports.
_NAMES = {
    CodeSystem.LOINC: ["2.16.840.1.113883.6.1", "loinc.org", "www.loinc.org", "loinc"],
    CodeSystem.SNOMED: [
        "2.16.840.1.113883.6.96", "snomed.info/sct", "snomed.info", "www.snomed.org", "ihtsdo.org", "snomed",
        "snomedct", "snomed-ct",
    ],
    CodeSystem.ICD10CM: [
        "2.16.840.1.113883.6.90", "hl7.org/fhir/sid/icd-10-cm", "hl7.org/fhir/sid/icd10-cm", "icd10cm", "icd-10-cm",
        "terminology.hl7.org/codesystem/icd10cm", "www.cdc.gov/nchs/icd/icd10cm",
        "mimic.mit.edu/fhir/mimic/codesystem/mimic-diagnosis-icd10",
    ],
    CodeSystem.ICD10: [
        "2.16.840.1.113883.6.3", "hl7.org/fhir/sid/icd-10", "icd10", "icd-10", "hl7.org/fhir/sid/icd-10-who",
        "terminology.hl7.org/codesystem/icd10", "id.who.int/icd/release/10", "www.who.int/classifications/icd10",
        "apps.who.int/classifications/icd10",
        # Germany: BfArM, formerly DIMDI
        "fhir.de/codesystem/bfarm/icd-10-gm", "fhir.de/codesystem/dimdi/icd-10-gm", "hl7.org/fhir/sid/icd-10-gm",
        "hl7.org/fhir/sid/icd-10-de", "1.2.276.0.76.5.409",
        # Australia and New Zealand
        "hl7.org/fhir/sid/icd-10-am", "terminology.hl7.org/codesystem/icd10am", "2.16.840.1.113883.6.135",
        "www.ihpa.gov.au/icd-10-am", "hl7.org.au/fhir/codesystem/icd-10-am",
        # Netherlands, Switzerland, France, Canada
        "hl7.org/fhir/sid/icd-10-nl", "2.16.840.1.113883.6.3.2",
        "hl7.org/fhir/sid/icd-10-ch", "fhir.ch/ig/ch-term/codesystem/icd-10-gm", "2.16.756.5.30.1.126.3.1",
        "hl7.org/fhir/sid/icd-10-fr", "2.16.840.1.113883.6.3.1", "hl7.org/fhir/sid/icd-10-ca",
        # Denmark (SKS: the WHO's code after the letter D), Finland, Norway, Sweden, Estonia
        "1.2.208.176.2.4", "1.2.208.176.2.4.12", "hl7.dk/fhir/core/codesystem/icd10-da",
        "1.2.246.537.6.1", "1.2.246.537.6.1.1999", "2.16.578.1.12.4.1.1.7110", "2.16.578.1.12.4.1.1.7111",
        "1.2.752.116.1.1.1.1.3", "1.2.752.116.1.1.1.1.8", "1.2.752.116.1.1.1", "1.3.6.1.4.1.28284.6.2.1.13",
    ],
    CodeSystem.ICD10PCS: [
        "www.cms.gov/medicare/coding/icd10", "2.16.840.1.113883.6.4", "hl7.org/fhir/sid/icd-10-pcs",
        "mimic.mit.edu/fhir/mimic/codesystem/mimic-procedure-icd10",
    ],
    CodeSystem.ICD9CM: [
        "2.16.840.1.113883.6.103", "hl7.org/fhir/sid/icd-9-cm", "hl7.org/fhir/sid/icd-9-cm/diagnosis", "icd9cm",
        "icd-9-cm", "hl7.org/fhir/sid/icd-9", "terminology.hl7.org/codesystem/icd9cm",
        "mimic.mit.edu/fhir/mimic/codesystem/mimic-diagnosis-icd9",
    ],
    CodeSystem.ICD9CM_PROCEDURE: [
        "hl7.org/fhir/sid/icd-9-cm/procedure", "2.16.840.1.113883.6.104",
        "mimic.mit.edu/fhir/mimic/codesystem/mimic-procedure-icd9",
    ],
    CodeSystem.RXNORM: ["2.16.840.1.113883.6.88", "www.nlm.nih.gov/research/umls/rxnorm", "rxnorm"],
    CodeSystem.ATC: [
        "2.16.840.1.113883.6.73", "www.whocc.no/atc", "www.whocc.no/atcddd", "www.whocc.no/atc_ddd_index",
        "whocc.no/atc", "atc", "terminology.hl7.org/codesystem/atc", "hl7.org/fhir/sid/atc",
        # Germany, Denmark, Finland, Norway, Sweden, France
        "fhir.de/codesystem/bfarm/atc", "fhir.de/codesystem/dimdi/atc", "1.2.276.0.76.5.467",
        "1.2.208.176.2.7", "1.2.246.537.6.32", "1.2.246.537.6.32.2007", "2.16.578.1.12.4.1.1.7180",
        "1.2.752.129.2.2.3.1.1", "1.2.250.1.213.2.3.2",
    ],
    CodeSystem.NDC: [
        "2.16.840.1.113883.6.69", "hl7.org/fhir/sid/ndc", "mimic.mit.edu/fhir/mimic/codesystem/mimic-medication-ndc",
    ],
    CodeSystem.MESH: ["id.nlm.nih.gov/mesh", "www.nlm.nih.gov/mesh", "2.16.840.1.113883.6.177"],
    CodeSystem.NPU: [
        "1.2.208.176.2.1", "npu-terminology.org", "www.npu-terminology.org", "2.16.578.1.12.4.1.1.7280",
        "1.2.752.108.1", "npu",
    ],
    CodeSystem.DMD: ["dmd.nhs.uk", "read-codes/dmd", "2.16.840.1.113883.2.1.6.4", "2.16.840.1.113883.2.1.3.2.4.16.28"],
    CodeSystem.UCUM: [
        "2.16.840.1.113883.6.8", "unitsofmeasure.org", "ucum.org", "www.unitsofmeasure.org",
        "mimic.mit.edu/fhir/mimic/codesystem/mimic-units",
    ],
    CodeSystem.ACT_CODE: [
        "2.16.840.1.113883.5.4", "hl7.org/fhir/v3/actcode", "terminology.hl7.org/codesystem/v3-actcode",
    ],
    CodeSystem.DATA_ABSENT: ["terminology.hl7.org/codesystem/data-absent-reason", "hl7.org/fhir/data-absent-reason"],
    CodeSystem.NULL_FLAVOR: [
        "2.16.840.1.113883.5.1008", "hl7.org/fhir/v3/nullflavor", "terminology.hl7.org/codesystem/v3-nullflavor",
    ],
}  # fmt: skip
_CANONICAL = {name: system for system, names in _NAMES.items() for name in names}
_PREFIXES = ("urn:oid:", "oid:", "http://", "https://")
_MAX_CHARACTERS = 200
"""Known names are shorter; the cache stays small."""


def canonical_system(name: str) -> str:
    """Returns the canonical URI of a code system, whatever its version, edition or spelling; an unknown one unchanged.

    >>> canonical_system("urn:oid:2.16.840.1.113883.6.1"), canonical_system("https://loinc.org/")
    ('http://loinc.org', 'http://loinc.org')
    >>> canonical_system("http://fhir.de/CodeSystem/bfarm/icd-10-gm|2024"), canonical_system("urn:mine")
    ('http://hl7.org/fhir/sid/icd-10', 'urn:mine')
    """
    return _canonical(name) if len(name) <= _MAX_CHARACTERS else name


def bare_uri(name: str) -> str:
    """Returns the name of a code system without scheme, `urn:oid:`, version and trailing slash, in lower case.

    >>> bare_uri("https://www.nubc.org/CodeSystem/PointOfOrigin|2.0"), bare_uri("urn:oid:1.2.3")
    ('www.nubc.org/codesystem/pointoforigin', '1.2.3')
    """
    bare = name.strip().partition("|")[0].rstrip("/").lower()
    for prefix in _PREFIXES:
        bare = bare.removeprefix(prefix)
    return bare


@lru_cache(maxsize=4096)
def _canonical(name: str) -> str:
    bare = bare_uri(name)
    if bare.startswith("snomed.info/sct/"):  # an edition or version of SNOMED CT
        return CodeSystem.SNOMED
    return _CANONICAL.get(bare, name)
