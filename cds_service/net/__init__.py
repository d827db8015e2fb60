"""The one way out: checked sockets, FHIR reads at allow-listed servers, NCBI's E-utilities."""
