"""The outside world, named role_vendor: chat_ollama, hub_hf, runtime_mlx, serve_llamacpp."""
