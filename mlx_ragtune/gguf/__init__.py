"""GGUF: model folders to files and back, quantization, parity with a real engine."""
