"""Sizes of well-known base models, so that their memory can be counted before anything is fetched.

The numbers are those of each model's ``config.json``. Any other model of a supported architecture works too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_ragtune.models import gemma4
from mlx_ragtune.models.architectures import flat_config


@dataclass(frozen=True)
class KnownBase:
    """A base model on the hub. ``parameters`` is the number that its model card states, exactly.

    For Gemma 4, it is the number of values that are read of its text model. ``more`` is what else config.json says.
    """

    name: str
    model_type: str
    hidden: int
    layers: int
    inner: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    tied: bool
    parameters: int
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Mapping[str, Any]:
        """What ``config.json`` says about its size."""
        sizes = {
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.inner,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
        }
        return flat_config({**sizes, **self.more})


def _qwen3(size: str, *numbers: int, tied: bool, parameters: int) -> KnownBase:
    hidden, layers, inner, heads = numbers
    return KnownBase(f"Qwen/Qwen3-{size}", "qwen3", hidden, layers, inner, heads, 8, 128, 151936, tied, parameters)


def _qwen2(size: str, *numbers: int, tied: bool, parameters: int) -> KnownBase:
    hidden, layers, inner, heads, kv_heads, head, vocabulary = numbers
    name = f"Qwen/Qwen2.5-{size}-Instruct"
    return KnownBase(name, "qwen2", hidden, layers, inner, heads, kv_heads, head, vocabulary, tied, parameters)


def _llama(name: str, *numbers: int, tied: bool, parameters: int, model_type: str = "llama") -> KnownBase:
    hidden, layers, inner, heads, kv_heads, head, vocabulary = numbers
    return KnownBase(name, model_type, hidden, layers, inner, heads, kv_heads, head, vocabulary, tied, parameters)


def _gemma4(size: str, *numbers: int, full: int, parameters: int, **more: Any) -> KnownBase:
    """One of Gemma 4 by the sizes in transformers' ``convert_gemma4_weights.py``. Every ``full``-th layer is full."""
    hidden, layers, inner, heads, kv_heads = numbers
    kinds = [gemma4.SLIDING if (layer + 1) % full else gemma4.FULL for layer in range(layers)]
    more = {"layer_types": kinds, "final_logit_softcapping": 30.0, **more}
    name, kind = f"google/gemma-4-{size}-it", gemma4.MODEL_TYPE
    return KnownBase(name, kind, hidden, layers, inner, heads, kv_heads, 256, 262144, True, parameters, more)


_SMOL = "HuggingFaceTB/SmolLM2-"
KNOWN_BASES = (
    _llama(f"{_SMOL}135M-Instruct", 576, 30, 1536, 9, 3, 64, 49152, tied=True, parameters=134_515_008),
    _llama("google/gemma-3-270m-it", 640, 18, 2048, 4, 1, 256, 262144, tied=True, parameters=268_098_176,
           model_type="gemma3_text"),
    _llama(f"{_SMOL}360M-Instruct", 960, 32, 2560, 15, 5, 64, 49152, tied=True, parameters=361_821_120),
    _qwen2("0.5B", 896, 24, 4864, 14, 2, 64, 151936, tied=True, parameters=494_032_768),
    _qwen3("0.6B", 1024, 28, 3072, 16, tied=True, parameters=596_049_920),
    _llama("google/gemma-3-1b-it", 1152, 26, 6912, 4, 1, 256, 262144, tied=True, parameters=999_885_952,
           model_type="gemma3_text"),
    _llama("meta-llama/Llama-3.2-1B-Instruct", 2048, 16, 8192, 32, 8, 64, 128256, tied=True,
           parameters=1_235_814_400),
    _qwen2("1.5B", 1536, 28, 8960, 12, 2, 128, 151936, tied=True, parameters=1_543_714_304),
    _llama(f"{_SMOL}1.7B-Instruct", 2048, 24, 8192, 32, 32, 64, 49152, tied=True, parameters=1_711_376_384),
    _qwen3("1.7B", 2048, 28, 6144, 16, tied=True, parameters=1_720_574_976),
    _qwen2("3B", 2048, 36, 11008, 16, 2, 128, 151936, tied=True, parameters=3_085_938_688),
    _llama("meta-llama/Llama-3.2-3B-Instruct", 3072, 28, 8192, 24, 8, 128, 128256, tied=True,
           parameters=3_212_749_824),
    _qwen3("4B", 2560, 36, 9728, 32, tied=True, parameters=4_022_468_096),
    _gemma4("E2B", 1536, 35, 6144, 8, 1, full=5, parameters=4_628_569_379, num_kv_shared_layers=20,
            use_double_wide_mlp=True),
    _llama("mistralai/Mistral-7B-Instruct-v0.3", 4096, 32, 14336, 32, 8, 128, 32768, tied=False,
           parameters=7_248_023_552, model_type="mistral"),
    _gemma4("E4B", 2560, 42, 10240, 8, 2, full=6, parameters=7_463_013_418, num_kv_shared_layers=18),
    _qwen2("7B", 3584, 28, 18944, 28, 4, 128, 152064, tied=False, parameters=7_615_616_512),
    _llama("meta-llama/Llama-3.1-8B-Instruct", 4096, 32, 14336, 32, 8, 128, 128256, tied=False,
           parameters=8_030_261_248),
    _qwen3("8B", 4096, 36, 12288, 32, tied=False, parameters=8_190_735_360),
    _qwen3("14B", 5120, 40, 17408, 40, tied=False, parameters=14_768_307_200),
    _qwen2("14B", 5120, 48, 13824, 40, 8, 128, 152064, tied=False, parameters=14_770_033_664),
    _gemma4("31B", 5376, 60, 21504, 32, 16, full=6, parameters=30_697_345_340, num_global_key_value_heads=4,
            attention_k_eq_v=True, hidden_size_per_layer_input=0, sliding_window=1024),
    _qwen3("32B", 5120, 64, 25600, 64, tied=False, parameters=32_762_123_264),
    _qwen2("32B", 5120, 64, 27648, 40, 8, 128, 152064, tied=False, parameters=32_763_876_352),
)  # fmt: skip
"""Instruction-tuned text models of supported architectures, the smallest first."""
