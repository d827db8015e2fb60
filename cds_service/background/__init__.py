"""Work beside the hooks: language models, notes read ahead, leases."""
