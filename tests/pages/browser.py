"""The browser of the tests is that of the benchmarks."""

from headless_chromium import Tab, chromium

__all__ = ["Tab", "chromium"]
