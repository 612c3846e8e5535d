"""Adapter folders of mlx-lm and of PEFT: which files hold the adapter, its shape, and its arrays in mlx-lm's terms.

An adapted matrix W becomes W + s·(A·B)ᵀ. mlx-lm stores ``lora_a`` [inputs, r], ``lora_b`` [r, outputs] and s; PEFT
stores ``lora_A`` [r, inputs], ``lora_B`` [outputs, r] and α, with s = α/r (α/√r with ``use_rslora``, arXiv 2312.03732).
Only safetensors are read: other files may hold code.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mlx_ragtune.artifact import MANIFEST, STAGE_FOLDERS
from mlx_ragtune.errors import InputError
from mlx_ragtune.models.vocabulary import read_json
from mlx_ragtune.models.weights import Floats, StoredWeight, tensors_of

MLX_FILES = ("adapters.safetensors", "adapter_config.json")
PEFT_FILES = ("adapter_model.safetensors", "adapter_config.json")
_CODE_FILES = {"adapter_model.bin": "save_pretrained(FOLDER, safe_serialization=True)", "adapters.npz": "mlx_lm.lora"}
"""Files of adapters that are not read, and what writes the adapter as safetensors."""
_MATRIX = r"layers\.(\d{1,5})\.((?:self_attn|mlp)\.[a-z]+_proj)"
_MLX_NAME = re.compile(rf"model\.{_MATRIX}\.(lora_a|lora_b|m)")
_PEFT_NAME = re.compile(rf"base_model\.model\.model\.{_MATRIX}\.(lora_A|lora_B|lora_magnitude_vector)(?:\.weight)?")
_LEAVES = {"lora_A": "lora_a", "lora_B": "lora_b", "lora_magnitude_vector": "m"}
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "kasa")
"""Values of ``init_lora_weights`` with which PEFT changes the base's own weights."""
_UNSUPPORTED = (
    "modules_to_save", "fan_in_fan_out", "lora_bias", "layer_replication", "target_parameters", "megatron_config",
    "trainable_token_indices", "alora_invocation_tokens", "use_qalora", "arrow_config", "use_bdlora",
    "kasa_config", "monteclora_config",
)  # fmt: skip
"""Options of PEFT that change the function and have no counterpart here."""

Place = tuple[int, str]
"""(layer, matrix), for example (3, "self_attn.q_proj")."""
Difference = tuple[str, object, object]
"""(key of the recipe's ``train``, its value in the adapter, its value in the recipe)."""


@dataclass(frozen=True)
class AdapterFiles:
    """The two files of an adapter."""

    weights: Path
    config: Path
    kind: Literal["mlx", "peft"]


@dataclass(frozen=True)
class Adapter:
    """An adapter whose headers were read. ``tensors`` are those of each matrix by mlx-lm's name of the leaf.

    ``scales`` are the factors s. ``base`` is the name of its base model, or "" where it is not told; ``base_digest``
    is known of an adapter that was trained here.
    """

    files: AdapterFiles
    method: Literal["lora", "dora"]
    rank: int
    scales: Mapping[Place, float]
    tensors: Mapping[Place, Mapping[str, StoredWeight]]
    base: str
    base_digest: str

    @property
    def layers(self) -> list[int]:
        """The adapted layers, sorted."""
        return sorted({layer for layer, _ in self.tensors})

    @property
    def modules(self) -> list[str]:
        """The adapted projections, sorted."""
        return sorted({matrix.rpartition(".")[2] for _, matrix in self.tensors})

    def shape(self, place: Place) -> tuple[int, int]:
        """(outputs, inputs) of a matrix."""
        a, b = (self._oriented(place, leaf).shape for leaf in ("lora_a", "lora_b"))
        return b[1], a[0]

    def arrays(self, scale: float) -> dict[str, Floats]:
        """The arrays in float32 by mlx-lm's names, for a model with one ``scale``: B carries what differs from it.

        Raises InputError for values that are not finite.
        """
        found = {}
        for place, leaves in self.tensors.items():
            for leaf in leaves:
                values = np.ascontiguousarray(self._oriented(place, leaf).values())
                if not np.isfinite(values).all():
                    raise InputError(
                        f"'{leaves[leaf].name}' contains NaN or infinite values",
                        where=str(self.files.weights),
                        fix="use another adapter, or train it again",
                    )
                if leaf == "lora_b" and self.scales[place] != scale:
                    values = (values.astype(np.float64) * (self.scales[place] / scale)).astype(np.float32)
                found[f"model.layers.{place[0]}.{place[1]}.{leaf}"] = values
        return found

    def _oriented(self, place: Place, leaf: str) -> "_Oriented":
        return _Oriented(self.tensors[place][leaf], transposed=self.files.kind == "peft" and leaf != "m")


@dataclass(frozen=True)
class _Oriented:
    """A tensor as mlx-lm has it."""

    stored: StoredWeight
    transposed: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape[::-1] if self.transposed else self.stored.shape

    def values(self) -> Floats:
        whole = self.stored.float32()
        return whole.T if self.transposed else whole


def find_adapter(folder: Path) -> AdapterFiles:
    """The files of an adapter in a folder, or in the training of a run's folder. Raises InputError without any."""
    for names, kind in ((MLX_FILES, "mlx"), (PEFT_FILES, "peft")):
        weights, config = (folder / name for name in names)
        if weights.is_file():
            if not config.is_file():
                raise InputError(
                    "adapter_config.json is missing", where=str(folder), fix="copy the whole adapter folder"
                )
            return AdapterFiles(weights, config, kind)  # type: ignore[arg-type]
    for name, better in _CODE_FILES.items():
        if (folder / name).is_file():
            raise InputError(
                f"{name} is not read: such files may hold code",
                where=str(folder),
                fix=f"save the adapter as safetensors, with {better}",
            )
    trained = folder / STAGE_FOLDERS["train"]
    if trained.is_dir():
        return find_adapter(trained)
    raise InputError(
        "there is no adapter: neither adapters.safetensors (mlx-lm) nor adapter_model.safetensors (PEFT)",
        where=str(folder),
        fix="name the folder of an adapter, or of a run that has been trained",
    )


def read_adapter(folder: Path) -> Adapter:
    """The adapter of a folder; reads headers only. Raises InputError for one that is damaged or not supported."""
    files = find_adapter(folder)
    try:
        config = read_json(files.config)
    except InputError as error:
        raise _damaged(files.config, error.what) from None
    tensors = _tensors(files)
    method: Literal["lora", "dora"] = "dora" if any("m" in leaves for leaves in tensors.values()) else "lora"
    rank = _rank(files, tensors, method)
    if files.kind == "mlx":
        scale = _mlx_scale(config, files.config)
        scales, base = dict.fromkeys(tensors, scale), config.get("model")
    else:
        _check_peft(config, files.config)
        scales, base = _peft_scales(config, files.config, tensors, rank), config.get("base_model_name_or_path")
    name = base if isinstance(base, str) else ""
    return Adapter(files, method, rank, scales, tensors, name, _recorded_base(files.weights.parent))


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"the adapter is damaged: {what}", where=str(path), fix="copy it again, or train it again")


def _tensors(files: AdapterFiles) -> dict[Place, dict[str, StoredWeight]]:
    """The tensors by matrix and mlx-lm's leaf. Raises InputError for names that are not those of a LoRA."""
    try:
        stored = tensors_of(files.weights)
    except InputError as error:
        raise _damaged(files.weights, error.what) from None
    pattern = _MLX_NAME if files.kind == "mlx" else _PEFT_NAME
    found: dict[Place, dict[str, StoredWeight]] = {}
    unknown = []
    for name, tensor in stored.items():
        if match := pattern.fullmatch(name):
            layer, matrix, leaf = match.groups()
            found.setdefault((int(layer), matrix), {})[_LEAVES.get(leaf, leaf)] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise InputError(
            f"the adapter has tensors that are not of a LoRA on attention or MLP projections: {', '.join(unknown[:3])}",
            where=str(files.weights),
            fix="use an adapter without biases, embeddings and whole modules",
        )
    return dict(sorted(found.items()))


def _rank(files: AdapterFiles, tensors: Mapping[Place, Mapping[str, StoredWeight]], method: str) -> int:
    """The rank that all matrices share. Raises InputError when leaves are missing or do not fit together."""
    leaves = {"lora_a", "lora_b"} | ({"m"} if method == "dora" else set())
    at = 1 if files.kind == "mlx" else 0
    ranks = set()
    if not tensors:
        raise _damaged(files.weights, "it has no tensors")
    for (layer, matrix), own in tensors.items():
        name = f"layers.{layer}.{matrix}"
        if set(own) != leaves:
            raise _damaged(files.weights, f"'{name}' lacks {', '.join(sorted(leaves - set(own)))}")
        a, b = own["lora_a"].shape, own["lora_b"].shape
        if len(a) != 2 or len(b) != 2 or a[at] != b[1 - at]:
            raise _damaged(files.weights, f"the matrices of '{name}' have shapes {list(a)} and {list(b)}")
        if "m" in own and own["m"].shape != (b[at],):
            raise _damaged(files.weights, f"the magnitudes of '{name}' have shape {list(own['m'].shape)}")
        ranks.add(a[at])
    per_layer = {layer: {matrix for other, matrix in tensors if other == layer} for layer, _ in tensors}
    if len(set(map(frozenset, per_layer.values()))) > 1:
        raise InputError(
            "the adapter has different projections in different layers",
            where=str(files.weights),
            fix="use an adapter with the same projections in every adapted layer",
        )
    if len(ranks) > 1:
        raise InputError(
            f"the adapter has matrices of different ranks: {', '.join(map(str, sorted(ranks)))}",
            where=str(files.weights),
            fix="use an adapter without 'rank_pattern'",
        )
    return int(ranks.pop())


def _number(value: Any, path: Path, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise _damaged(path, f"'{key}' is {value!r:.40}")
    return float(value)


def _mlx_scale(config: Mapping[str, Any], path: Path) -> float:
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise InputError(f"fine_tune_type is '{kind!s:.40}'", where=str(path), fix="use a LoRA or DoRA adapter")
    parameters = config.get("lora_parameters")
    return _number(parameters.get("scale") if isinstance(parameters, dict) else None, path, "lora_parameters.scale")


def _check_peft(config: Mapping[str, Any], path: Path) -> None:
    """Raise InputError for what PEFT can do and mlx-lm's adapters cannot."""
    odd = [f"peft_type: {config.get('peft_type')!s:.40}"] if config.get("peft_type") != "LORA" else []
    if config.get("bias", "none") != "none":
        odd.append(f"bias: {config['bias']!s:.40}")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        odd.append(f"init_lora_weights: {start:.40}, which changes the base")
    odd += [key for key in _UNSUPPORTED if config.get(key)]
    if odd:
        raise InputError(
            f"the PEFT adapter uses what is not supported: {'; '.join(odd)}",
            where=str(path),
            fix="train it as a plain LoRA or DoRA adapter, or merge it into the base with PEFT",
        )


def _peft_scales(
    config: Mapping[str, Any], path: Path, tensors: Mapping[Place, object], rank: int
) -> dict[Place, float]:
    root = rank**0.5 if config.get("use_rslora") else rank
    if not config.get("rank_pattern") and config.get("r") != rank:
        raise _damaged(path, f"'r' is {config.get('r')!r:.40}, its matrices have rank {rank}")
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or not all(re.fullmatch(r"[\w.]{1,200}", name) for name in patterns):
        raise InputError(
            "'alpha_pattern' has names that are regular expressions",
            where=str(path),
            fix="write the names of modules, such as q_proj or layers.3.mlp.up_proj",
        )
    scales = {}
    for layer, matrix in tensors:
        alpha, name = config.get("lora_alpha"), f"model.layers.{layer}.{matrix}"
        for ending, own in patterns.items():  # PEFT takes the first that matches
            if name == ending or name.endswith(f".{ending}"):
                alpha = own
                break
        scales[layer, matrix] = _number(alpha, path, "lora_alpha") / root
    return scales


def _recorded_base(folder: Path) -> str:
    """The digest of the base that an adapter was trained on here, or "" where no manifest tells it."""
    try:
        digest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["described"]["inputs"]["base"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return digest if isinstance(digest, str) else ""


def peft_arrays(adapter: Adapter) -> Iterator[tuple[str, Floats]]:
    """The arrays by PEFT's names, sorted, in float32. The scale is told by ``peft_config``."""
    scale = next(iter(adapter.scales.values()))
    for name, values in sorted(adapter.arrays(scale).items()):
        stem, _, leaf = name.rpartition(".")
        if leaf == "m":
            yield f"base_model.model.{stem}.lora_magnitude_vector", values
        else:
            letter = leaf.removeprefix("lora_").upper()
            yield f"base_model.model.{stem}.lora_{letter}.weight", np.ascontiguousarray(values.T)


def peft_config(
    adapter: Adapter, *, base: str | None, layers: int, dropout: float, strength: float = 1.0
) -> dict[str, Any]:
    """PEFT's ``adapter_config.json`` of an adapter with one scale, for a model of ``layers`` layers.

    ``strength`` is a factor on the scale.
    """
    alpha = next(iter(adapter.scales.values())) * adapter.rank * strength
    some = adapter.layers != list(range(layers))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": adapter.rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": dropout,
        "use_rslora": False,
        "use_dora": adapter.method == "dora",
        "target_modules": adapter.modules,
        "layers_to_transform": adapter.layers if some else None,
        "layers_pattern": "layers" if some else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
