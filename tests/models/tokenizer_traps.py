"""Toy bases whose tokenizers and templates are as awkward as those of real families."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers
from tokenizers.processors import TemplateProcessing

from mlx_ragtune.models.toy import TEMPLATE, write_toy_model
from tests.toy_models import change

BOS = "<|endoftext|>"


def trapped_base(
    folder: Path, *, adds_bos: bool = False, writes_bos: bool = False, prepends: bool = False, template: str = TEMPLATE
) -> Path:
    """A llama toy over characters, as TinyLlama and Mistral 0.1 are.

    ``adds_bos``: the tokenizer puts a BOS before a text; ``writes_bos``: the template writes one; ``prepends``: the
    tokenizer puts a space before a text.
    """
    write_toy_model(folder, architecture="mistral", seed=0)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if adds_bos:
        number = tokenizer.token_to_id(BOS)
        tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, number)])
    if prepends:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.save(str(folder / "tokenizer.json"))
    begin = "{{ bos_token }}" if writes_bos else ""
    change(folder / "tokenizer_config.json", bos_token=BOS, add_bos_token=adds_bos, chat_template=begin + template)
    return folder


def settings(folder: Path) -> dict[str, object]:
    """tokenizer_config.json."""
    value: dict[str, object] = json.loads((folder / "tokenizer_config.json").read_text())
    return value
