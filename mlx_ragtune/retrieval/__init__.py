"""The full-text index, what it finds for a question, and the prompt made of it."""
