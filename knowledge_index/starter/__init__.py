"""Data files of the starter evidence base: real PMIDs, each finding summarised in one sentence by this project."""
