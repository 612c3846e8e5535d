"""``python -m mlx_ragtune`` is ``ragtune``."""

from mlx_ragtune.cli import main

main(prog_name="ragtune")
