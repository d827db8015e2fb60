"""Data files of risk_model: model card texts, planned readmissions."""
