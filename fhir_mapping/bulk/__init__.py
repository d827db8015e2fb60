"""Reads Bulk Data exports as streams of records, and writes MEDS datasets."""

from fhir_mapping.bulk.export_files import BUNDLES, LINES, PERSONAL, lines_of
from fhir_mapping.bulk.meds_writer import MedsWriter, subject_number
from fhir_mapping.bulk.partition_files import ExportFault
from fhir_mapping.bulk.partitioning import partition_by_patient
from fhir_mapping.bulk.population import PatientPartitions

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
