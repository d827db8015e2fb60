"""Data files of this package: concepts, note terms, diagnosis groups, drug classes, site maps."""
