"""``ragtune push``: a run's model to the Hugging Face hub."""

import json
from pathlib import Path
from typing import cast

import click

from mlx_ragtune.cli_options import AS_JSON, RECIPE, open_run, say


@click.command()
@RECIPE
@click.argument("repository")
@click.option(
    "--what",
    type=click.Choice(["adapter", "fused", "gguf"]),
    default="adapter",
    show_default=True,
    help="The adapter alone, the merged model, or its GGUF file.",
)
@click.option("--yes", is_flag=True, help="Upload; without it nothing leaves this machine.")
@click.option("--public", is_flag=True, help="Create a public repository; without it, a private one.")
@click.option("--license", "license_id", metavar="ID", help="License for the card: apache-2.0, other, …")
@click.option("--replace", is_flag=True, help="Write into a repository with files that ragtune did not upload.")
@AS_JSON
def push(
    recipe: Path,
    repository: str,
    what: str,
    yes: bool,
    public: bool,
    license_id: str | None,
    replace: bool,
    as_json: bool,
) -> None:
    """Show what would go to REPOSITORY (USER/NAME) on the Hugging Face hub; with --yes, upload it.

    The files are the weights, a model card with the verdict, and ragtune.json. No paper, question or answer is among
    them. The token is read from HF_TOKEN. After a failure, the same command continues.

    \b
    Examples:
      ragtune push recipes/demo.yaml ada/demo-adapter
      ragtune push recipes/demo.yaml ada/demo-gguf --what gguf --yes
    """
    from tempfile import TemporaryDirectory

    from mlx_ragtune.commands.push import What, pack, send, shown
    from mlx_ragtune.commands.push import as_json as described

    run = open_run(recipe, offline=True)
    with TemporaryDirectory(prefix="ragtune-push-") as folder:
        parcel = pack(run, repository, Path(folder), what=cast(What, what), license_id=license_id)
        if not as_json:
            click.echo(shown(parcel))
        uploaded = send(parcel, run, public=public, replace=replace, say=say) if yes else None
        if as_json:
            click.echo(json.dumps(described(parcel, uploaded), indent=2))
            return
    if uploaded is not None:
        click.echo(f"uploaded: {uploaded.url} (commit {uploaded.commit[:12]})")
    else:
        click.echo(f"nothing was uploaded; add --yes to upload to a {'public' if public else 'private'} repository")
