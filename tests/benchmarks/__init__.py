"""Benchmarks: `make bench`, or `python -m tests.benchmarks [NAME ...]`. Only ratios within one run mean anything."""
