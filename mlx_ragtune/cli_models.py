"""Commands about what is kept on disk and at Ollama: registered models, adapters, and artifacts without a run."""

import json
from pathlib import Path

import click

from mlx_ragtune.cli_options import AS_JSON, RECIPE, FiniteRange, open_run


@click.group(invoke_without_command=True)
@click.option(
    "--fit", "sizes", multiple=True, type=FiniteRange(min=4, max=4096), metavar="GB",
    help="List which base models can be tuned on a Mac with so much memory; repeat it to compare.",
)  # fmt: skip
@AS_JSON
@click.pass_context
def models(ctx: click.Context, sizes: tuple[float, ...], as_json: bool) -> None:
    """List or remove the models that ragtune registered, or list base models by the memory that they need.

    \b
    Examples:
      ragtune models list
      ragtune models remove demo
      ragtune models --fit 16                        what fits a 16 GB Mac
      ragtune models --fit 16 --fit 32 --fit 64      side by side
    """
    if ctx.invoked_subcommand is not None:
        if sizes or as_json:
            option = "--fit" if sizes else "--json"
            raise click.UsageError(f"{option} does not go with '{ctx.invoked_subcommand}'")
        return
    if not sizes:
        ctx.invoke(list_models, as_json=as_json)
        return
    from mlx_ragtune.commands.fit import as_json as rows_json
    from mlx_ragtune.commands.fit import fits, fits_text

    found = {size: fits(size) for size in sizes}
    click.echo(json.dumps(rows_json(found), indent=2) if as_json else fits_text(found))


@models.command("list")
@AS_JSON
def list_models(as_json: bool) -> None:
    """List the names, servers and types of registered models, and whether Ollama still has them."""
    from mlx_ragtune.commands.models import listing, registered

    rows, damaged = registered(ask_servers=True)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo(listing(rows))
    for error in damaged[:-1]:
        click.echo(f"error: {error}", err=True)
    if damaged:
        raise damaged[-1]


@click.command()
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@AS_JSON
def prune(yes: bool, as_json: bool) -> None:
    """List or remove artifacts that no run uses any more.

    \b
    Examples:
      ragtune prune           what could be removed, and how much disk it uses
      ragtune prune --yes     remove it
    """
    from mlx_ragtune.artifact import Store, unused
    from mlx_ragtune.pages.tables import render_table
    from mlx_ragtune.recipe_load import runs_folder

    store = Store(runs_folder(Path.cwd() / "recipe"))
    artifacts = list(unused(store, remove=yes))
    if as_json:
        rows = [{"name": name, "bytes": size} for name, size in artifacts]
        click.echo(json.dumps({"removed": yes, "artifacts": rows}, indent=2))
        return
    total = sum(size for _, size in artifacts)
    if artifacts:
        click.echo(render_table(["unused", "MiB"], [[name, f"{size / 2**20:.1f}"] for name, size in artifacts]))
    click.echo(f"{total / 2**30:.2f} GiB {'removed' if yes else 'can be removed with: ragtune prune --yes'}")


@models.command("remove")
@click.argument("run_name")
def remove_models(run_name: str) -> None:
    """Remove both registered models of a run. Its other artifacts, and models of others, are kept."""
    from mlx_ragtune.commands.models import remove

    for line in remove(run_name):
        click.echo(line)


@click.group()
def adapter() -> None:
    """Write a run's adapter in the format of PEFT, or show what an adapter needs in a recipe.

    \b
    Examples:
      ragtune adapter export recipes/demo.yaml adapter-of-demo
      ragtune adapter show adapter-of-demo
    """


@adapter.command("export")
@RECIPE
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@AS_JSON
def export_adapter(recipe: Path, folder: Path, as_json: bool) -> None:
    """Write the trained adapter of a recipe to FOLDER as PEFT reads it.

    FOLDER gets adapter_model.safetensors and adapter_config.json. mlx-lm reads the run's own: runs/NAME/3-train.

    \b
    Example:
      ragtune adapter export recipes/demo.yaml adapter-of-demo
    """
    from mlx_ragtune.commands.adapter_folders import export_peft

    written = export_peft(open_run(recipe, offline=True), folder)
    if as_json:
        click.echo(json.dumps(written, indent=2))
    else:
        click.echo(f"{folder}: {written['tensors']} tensors, {written['bytes'] / 2**20:.1f} MiB")


@adapter.command("show")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@AS_JSON
def show_adapter(folder: Path, as_json: bool) -> None:
    """Show the recipe keys with which training starts from the adapter in FOLDER: of a run, of mlx-lm, or of PEFT.

    \b
    Example:
      ragtune adapter show runs/demo
    """
    from mlx_ragtune.commands.adapter_folders import describe, recipe_text

    found = describe(folder)
    click.echo(json.dumps(found, indent=2) if as_json else recipe_text(folder, found))
