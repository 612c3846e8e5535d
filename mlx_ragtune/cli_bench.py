"""``ragtune bench``: its options, and where it writes what it measured."""

import json
from pathlib import Path

import click

from mlx_ragtune.cli_options import AS_JSON, RECIPE, open_run, say
from mlx_ragtune.pages.interrupt import announce_interrupt


@click.command()
@RECIPE
@click.option(
    "--updates",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Rows to train, counted in the recipe's updates.",
)
@click.option(
    "--repeats", type=click.IntRange(1, 25), default=3, show_default=True, help="Measurements of each side, in turn."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file to write [RUN/bench.json].",
)
@AS_JSON
def bench(recipe: Path, updates: int, repeats: int, out: Path | None, as_json: bool) -> None:
    """Measure stock mlx-lm and ragtune on the recipe's rows: tokens/s and peak memory on this machine.

    Both train the same rows with the same LoRA layers and optimizer, in turn, in processes of their own: a first pass
    warms up, a second one is measured. Prints a row to paste into docs/measurements.md. Close other programs first.

    \b
    Examples:
      ragtune bench recipes/demo.yaml
      ragtune bench recipes/qwen3_4b_r16.yaml --updates 1
    """
    from mlx_ragtune.commands import bench as command
    from mlx_ragtune.pages.output_file import require_writable, write_page

    if out:
        require_writable(out)
    run = open_run(recipe, missing_ok=("benchmark",))
    with announce_interrupt():
        found = command.bench(run, updates=updates, repeats=repeats)
    path = out or run.home / "bench.json"
    text = json.dumps(found, indent=2, ensure_ascii=False)
    write_page(path, text + "\n")
    click.echo(text if as_json else command.show(found))
    say(f"measurements: {path}")
