"""Facts about a model folder: architecture, weights, chat template, tokenizer, prompts as tokens."""
