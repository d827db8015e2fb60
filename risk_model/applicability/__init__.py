"""Whether a model may estimate for a patient: eligibility, exclusions, missing inputs, outliers."""
