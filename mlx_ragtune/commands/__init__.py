"""Commands that are not stages: ask, doctor, init, models."""
