"""A package, because tests/etarec has tests of the same names."""
