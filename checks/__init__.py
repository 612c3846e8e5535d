"""Checks of the shipped data and of the built wheel: `make check-data`, `make test-wheel`."""
