"""The outside world: Ollama, the llama.cpp server, the Hugging Face hub, the MLX runtime."""
