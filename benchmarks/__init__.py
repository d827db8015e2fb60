"""Benchmarks on real outcomes and against peers: each converts, runs, and writes its result as JSON."""
