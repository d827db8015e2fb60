"""Oversight commands: audit, monitor, outcomes, replay."""
