"""A base model as a folder, from a hub id, a folder, a GGUF file or an Ollama name."""
