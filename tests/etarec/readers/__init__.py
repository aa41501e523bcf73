"""A package, because tests/search/table has a test_rows.py too."""
