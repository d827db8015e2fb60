"""FHIR JSON in, plain values out. No network, no clock, no machine learning."""
