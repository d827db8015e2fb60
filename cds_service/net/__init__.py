"""Outbound network access: checked sockets, FHIR reads at allow-listed servers, NCBI's E-utilities."""
