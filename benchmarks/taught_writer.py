"""SmolLM2-135M, taught to write pairs: a small real model whose pairs pass the checks, for ``generation.py speed``.

    python benchmarks/taught_writer.py FOLDER        # prints the GGUF file
    python benchmarks/generation.py speed --model FOLDER/writer.gguf --slots 8 --pairs 64 --seconds 600

The model is tuned on what the scripted writer (``scripted_writer.py``) was asked and replied: half of the requests with
four pairs a call, half with one, as many of each kind. They are requests about the same passages that ``speed`` asks
about, so that the figures say nothing about pairs on unseen papers.
"""

import argparse
import random
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generation import ROOT, SMOLLM2, Quiet, Side, make_corpus
from scripted_writer import reply_to, tokens_in

from mlx_ragtune.artifact import digest_bytes
from mlx_ragtune.bases.resolve import resolve_base
from mlx_ragtune.gguf.reader import import_gguf
from mlx_ragtune.gguf.writer import write_gguf
from mlx_ragtune.recipe import DatasetSettings, TrainSettings
from mlx_ragtune.records import ChatReply, ChatRequest, Example, Message
from mlx_ragtune.tuning.merge import fuse
from mlx_ragtune.tuning.run import train

ROWS_OF_A_KIND = 24
SETTINGS = TrainSettings(rank=32, alpha=64, epochs=1, batch_size=4, accumulation=1, learning_rate=1e-3)


class Noting:
    """The scripted model; notes what it was asked and what it replied."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Message, ...]]] = defaultdict(list)

    def chat(self, request: ChatRequest) -> ChatReply:
        """The reply, at once."""
        schema = request.schema or {}
        text = reply_to(request.messages[1].content, schema, request.sampling.seed)
        self.rows[next(iter(schema["properties"]))].append((*request.messages, Message("assistant", text)))
        return ChatReply(text, "stop", 1, tokens_in(text), 0.0)


def rows(draw: random.Random) -> list[Example]:
    """Conversations with the scripted model, as many of each kind and of each number of pairs a call."""
    found: list[tuple[Message, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder) / "corpus", ROOT / "data" / "rag_notes" / "papers", tokens=300)
        for pairs_per_call in (4, 1):
            noting = Noting()
            home = Path(folder) / str(pairs_per_call)
            Side(corpus, home, noting, pairs_per_call=pairs_per_call, slots=1).turn(3600.0, wanted=200)
            for kind in sorted(noting.rows):
                found += draw.sample(noting.rows[kind], min(ROWS_OF_A_KIND, len(noting.rows[kind])))
    draw.shuffle(found)
    return [Example(f"row{at}", "grounded", _passages(turns), turns) for at, turns in enumerate(found)]


def _passages(turns: tuple[Message, ...]) -> str:
    """The same for prompts on the same passages, which are computed once."""
    return digest_bytes("".join(turn.content for turn in turns[:2]).split("\n\nWrite ")[0][:1000].encode())


def main() -> None:
    """Tune, fuse, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    (folder / "adapter").mkdir(parents=True)
    base, examples = resolve_base(SMOLLM2, import_gguf=import_gguf), rows(random.Random(7))
    train(
        SETTINGS,
        SMOLLM2,
        DatasetSettings(pairs=folder / "rows", split="none", max_tokens=3072),
        base=base,
        rows={"train": examples, "valid": []},
        folder=folder / "adapter",
        seed=7,
        progress=Quiet().reach,
    )
    prompts = [example.messages[:-1] for example in examples[:2]]
    fuse(base, folder / "adapter", folder / "model", prompts=prompts, thinking=False)
    write_gguf(folder / "model", folder / "writer.gguf", type="Q8_0", name="writer")
    print(folder / "writer.gguf")


if __name__ == "__main__":
    main()
