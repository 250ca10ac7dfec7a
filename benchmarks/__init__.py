"""Benchmarks: see `make bench-quick` and `make bench`."""
