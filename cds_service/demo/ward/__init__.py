"""The demo's patients: charts, moved in time, from the package, a folder or a FHIR server."""
