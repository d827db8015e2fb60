"""Data files: concepts, note phrases, diagnosis groups, drug classes and site maps."""
