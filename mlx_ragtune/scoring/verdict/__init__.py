"""Pairing, statistics, guards and the verdict."""
