"""Commands on patients: map and score."""
