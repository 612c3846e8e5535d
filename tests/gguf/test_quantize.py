import hashlib
import json
from pathlib import Path
from typing import get_args

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import quants

from mlx_ragtune.gguf.container import GgufFile
from mlx_ragtune.gguf.quantize import FILE_TYPES, QuantType, encode, tensor_type
from tests.toy_models import Written

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())["models"]
KINDS: tuple[QuantType, ...] = get_args(QuantType)


def digest(file: GgufFile) -> str:
    whole = hashlib.sha256()
    for tensor in sorted(file.tensors, key=lambda one: one.name):
        rows = 1 if len(tensor.shape) == 1 else tensor.shape[0]
        whole.update(f"{tensor.name} {tensor.type.name} {tensor.shape}\n".encode())
        whole.update(file.rows(tensor, 0, rows).tobytes())
    return whole.hexdigest()


@pytest.mark.parametrize("model", sorted(GOLDEN))
@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_what_llama_cpp_makes_of_it(written: Written, model: str, kind: QuantType) -> None:
    assert digest(GgufFile(written(model, kind))) == GOLDEN[model][kind]


def test_the_file_types_are_llama_cpps() -> None:
    assert {
        gguf.LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_") for number in FILE_TYPES.values()
    } == set(KINDS)
    for kind, number in FILE_TYPES.items():
        assert gguf.LlamaFileType(number).name.endswith(kind)


def policy(kind: QuantType, tensor: str, layers: int, *, tied: bool = True, row: int = 1024) -> list[Type]:
    names = [f"blk.{layer}.{tensor}.weight" for layer in range(layers)]
    return [tensor_type(name, (64, row), kind, layers=layers, tied=tied) for name in names]


def test_q4_k_m_gives_more_bits_to_first_last_and_every_third_layer() -> None:
    for tensor in ("attn_v", "ffn_down"):
        more = [layer for layer, chosen in enumerate(policy("Q4_K_M", tensor, 36)) if chosen == Type.Q6_K]
        assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31, 32, 33, 34, 35]
    assert set(policy("Q4_K_M", "attn_q", 36)) == {Type.Q4_K}


def test_q4_k_s_gives_more_bits_to_the_first_layers_only() -> None:
    values, downs = policy("Q4_K_S", "attn_v", 36), policy("Q4_K_S", "ffn_down", 36)
    assert [n for n, chosen in enumerate(values) if chosen == Type.Q5_K] == [0, 1, 2, 3]
    assert [n for n, chosen in enumerate(downs) if chosen == Type.Q5_K] == [0, 1, 2, 3]
    assert [n for n, chosen in enumerate(policy("Q4_K_S", "ffn_down", 16)) if chosen == Type.Q5_K] == [0, 1]


def test_q5_k_m_and_q6_k() -> None:
    assert policy("Q5_K_M", "ffn_down", 4)[-1] == Type.Q6_K
    assert set(policy("Q5_K_M", "ffn_up", 4)) == {Type.Q5_K}
    assert set(policy("Q6_K", "ffn_down", 4) + policy("Q6_K", "attn_q", 4)) == {Type.Q6_K}


def test_the_output_matrix_gets_six_bits_wherever_it_is() -> None:
    for tied, embedding in ((True, Type.Q6_K), (False, Type.Q4_K)):
        assert tensor_type("token_embd.weight", (9, 256), "Q4_K_M", layers=2, tied=tied) == embedding
    assert tensor_type("output.weight", (9, 256), "Q4_K_M", layers=2, tied=False) == Type.Q6_K


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("Q4_K_M", 288, Type.Q5_0),
        ("Q5_K_M", 288, Type.Q5_1),
        ("Q6_K", 288, Type.Q8_0),
        ("Q4_K_M", 40, Type.F16),
        ("Q8_0", 40, Type.F16),
        ("Q8_0", 288, Type.Q8_0),
        ("F16", 7, Type.F16),
        ("BF16", 7, Type.BF16),
    ],
)
def test_rows_that_do_not_fit_fall_back_as_in_llama_cpp(kind: QuantType, row: int, expected: Type) -> None:
    assert tensor_type("blk.0.attn_q.weight", (8, row), kind, layers=1, tied=True) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_stay_float32(kind: QuantType) -> None:
    assert tensor_type("blk.0.attn_norm.weight", (256,), kind, layers=1, tied=True) == Type.F32


SPREAD = np.concatenate(
    [np.random.default_rng(0).normal(0, scale, 256).astype(np.float32) for scale in (1e-8, 1e-3, 0.02, 1, 300, 6e4 / 5)]
    + [np.zeros(256, np.float32), np.full(256, -0.37, np.float32)]
).reshape(8, 256)


@pytest.mark.parametrize("kind", [Type.BF16, Type.Q8_0, Type.Q5_0, Type.Q5_1])
def test_bytes_equal_those_of_the_gguf_package(kind: Type) -> None:
    ours = np.ascontiguousarray(encode(SPREAD, kind)).view(np.uint8)
    assert np.array_equal(ours, quants.quantize(SPREAD, kind).view(np.uint8))


@pytest.mark.parametrize("kind", [Type.Q4_K, Type.Q5_K, Type.Q6_K])
def test_quantized_values_are_near_the_originals(kind: Type) -> None:
    back = quants.dequantize(np.asarray(encode(SPREAD, kind)), kind).reshape(SPREAD.shape)
    steps = {Type.Q4_K: 16, Type.Q5_K: 32, Type.Q6_K: 64}[kind]
    for row, values in zip(back[1:], SPREAD[1:], strict=True):
        assert np.abs(row - values).max() <= 2.5 * np.abs(values).max() / steps


def test_ties_go_to_even_in_bfloat16() -> None:
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8)], np.float32)
    back = (encode(halves, Type.BF16).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1.0, 1 + 2**-6, -1.0]
