"""Commands that look back: audit, monitor, outcomes, replay."""
