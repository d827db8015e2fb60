"""Reads Bulk Data exports as streams of records, and writes MEDS datasets."""

from fhir_mapping.bulk.export_files import BUNDLES, LINES, PERSONAL, lines_of
from fhir_mapping.bulk.meds_writer import MedsWriter, subject_number
from fhir_mapping.bulk.population import ExportFault, PatientPartitions, partition_by_patient

__all__ = [
    "BUNDLES",
    "LINES",
    "PERSONAL",
    "ExportFault",
    "MedsWriter",
    "PatientPartitions",
    "lines_of",
    "partition_by_patient",
    "subject_number",
]
