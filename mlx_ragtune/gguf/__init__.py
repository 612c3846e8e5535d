"""GGUF: model folders to files and back, quantisation, parity with a real engine."""
