"""Turn a folder of papers into a small model that answers from them, and test honestly whether it helped."""

__version__ = "0.1.0"
