"""A package, because tests/search has a test_provenance.py too."""
