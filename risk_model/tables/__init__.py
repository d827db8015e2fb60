"""Data files of this room: model card texts, planned readmissions."""
