"""Metrics of one answer."""
