"""Answers from the papers of a finished run: retrieval as in training, the trained prompt, the registered model."""
