"""The full-text index, the passages it finds for a question, and the prompt built from them."""
