"""The explanation of an estimate as plain values: drivers, literature, note findings, data quality."""
