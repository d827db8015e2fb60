"""Local codes of a hospital: site maps, proposals for codes without one, imports from ConceptMaps."""

from fhir_mapping.site_maps.concept_maps import CodeMapping, SiteMapImport, check_document, imported, read_mappings
from fhir_mapping.site_maps.local_codes import CodeProposal, LocalCodes

__all__ = [
    "CodeMapping",
    "CodeProposal",
    "LocalCodes",
    "SiteMapImport",
    "check_document",
    "imported",
    "read_mappings",
]
