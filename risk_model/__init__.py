"""PatientRecord and Evidence in, RiskEstimate out."""
