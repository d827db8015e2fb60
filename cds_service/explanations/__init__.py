"""What stands behind an estimate, as plain values: drivers, literature, notes, data quality."""
