"""The command about generated pairs: look at the first ones before all of them are written."""

from pathlib import Path

import click

from mlx_ragtune.cli_options import AS_JSON, RECIPE, echo_json, open_run, say


@click.command()
@RECIPE
@click.option(
    "--preview",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    metavar="N",
    help="Show N pairs that pass the checks.",
)
@AS_JSON
def generate(recipe: Path, preview: int, as_json: bool) -> None:
    """Write the first pairs of a recipe's generator and show them with their quotes, and why others are rejected.

    No stage's result is touched. 'ragtune dataset' writes all pairs, and does not make these calls again.

    \b
    Example:
      ragtune generate recipes/source_experiment.yaml --preview 5
    """
    from mlx_ragtune.commands.preview import preview as first_pairs
    from mlx_ragtune.commands.preview import show
    from mlx_ragtune.pages.interrupt import announce_interrupt

    with announce_interrupt():
        found = first_pairs(open_run(recipe), count=preview, say=say)
    if as_json:
        echo_json(found)
    else:
        click.echo(show(found))
