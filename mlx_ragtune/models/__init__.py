"""Facts about a model folder: architecture, chat template, tokenizer, prompts as tokens."""
