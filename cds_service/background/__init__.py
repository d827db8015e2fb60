"""Background work: language models, notes read ahead, leases."""
