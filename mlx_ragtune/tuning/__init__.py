"""LoRA on MLX: rows and groups, the loss, the loop, checkpoints, fusing."""
