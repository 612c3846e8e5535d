"""The section of a recipe about training."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mlx_ragtune.recipe_types import Count, File, Settings, Share, Tokens

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MORE_PROJECTIONS = ("in_proj_qkv", "in_proj_z", "in_proj", "out_proj")
"""Of the layers of Qwen3.5 and LFM2 that keep a state."""
_ALL_PROJECTIONS = PROJECTIONS + MORE_PROJECTIONS

NEWER_KEYS = ("kl", "preference", "strength", "from_adapter")
"""Optional keys of `train` that older artifacts do not know. While they are null they are no part of an artifact's key
nor of a checkpoint's description, so that finished and interrupted runs from before stay valid."""


SCALES = (0.25, 0.4, 0.5, 0.65, 0.8, 1.0)


class StrengthSettings(Settings):
    """Weaker versions of the trained adapter: less of what was learned, more of what the base model could do.

    The factor with the best answers to validation questions is kept, within a limit on what is forgotten.
    """

    scales: Annotated[tuple[Annotated[float, Field(gt=0, le=2)], ...], Field(min_length=1, max_length=16)] = SCALES
    """Factors on the adapter. Each is scored on validation questions and on held-out rehearsal prompts."""
    max_loss: Annotated[float, Field(gt=0, le=100)] = 0.1
    """Limit: the largest increase of the loss on the base's own answers, in nats per token; else the least increase."""

    @field_validator("scales")
    @classmethod
    def _distinct(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) != len(value):
            raise ValueError("give each factor once")
        return value


class KLSettings(Settings):
    """A term in the loss that keeps the tuned model's distributions near the base's: KL(base ‖ tuned)."""

    weight: Annotated[float, Field(gt=0, le=1000)] = 0.1
    """Factor of the mean KL per chosen token; the mean cross-entropy per answer token has factor 1."""
    tokens: Literal["rehearsal", "all"] = "rehearsal"
    """Answer tokens that count: those of the base's own answers (`dataset.rehearsal`), or all of them."""
    mask_target: bool = False
    """Compare the distributions without the trained token, so that the term does not oppose the cross-entropy."""


class PreferenceSettings(Settings):
    """A term in the loss that prefers a row's answer to a rejected one: an answer over a refusal, or the reverse."""

    method: Literal["orpo", "dpo"] = "orpo"
    """`orpo`: by the odds ratio; `dpo`: relative to the base, the same weights without the adapter."""
    beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """`orpo`: factor of the term, λ; `dpo`: β, how much a change against the base counts."""
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0
    """`dpo`: factor of the term; the mean cross-entropy per answer token has factor 1."""


class TrainSettings(Settings):
    """LoRA, the optimizer and the training loop."""

    engine: Literal["shared-prefix", "mlx-lm"] = "shared-prefix"
    """`shared-prefix` computes each shared context once; `mlx-lm` is the reference trainer, with the same loss."""
    method: Literal["lora", "dora"] = "lora"
    """Adapter type."""
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """LoRA rank r."""
    alpha: Annotated[float, Field(gt=0, le=65536)] | None = None
    """LoRA α: the update is scaled by α/r (α/√r with rank_stabilized). Give `alpha` or `scale`."""
    scale: Annotated[float, Field(gt=0, le=65536)] | None = None
    """The scaling factor itself, as in mlx-lm. Give `alpha` or `scale`."""
    rank_stabilized: bool = False
    """`alpha`: scale by α/√r (rsLoRA)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """LoRA dropout."""
    target_modules: Annotated[tuple[Literal[_ALL_PROJECTIONS], ...], Field(min_length=1)] = PROJECTIONS  # type: ignore[valid-type]
    """Projections to adapt. Qwen3-MoE has those of attention; the last four are of hybrid models (Qwen3.5, LFM2)."""
    layers: Annotated[int, Field(ge=1, le=1024)] | Literal["all"] = "all"
    """Adapt the last N layers, or all of them."""
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3
    """Passes over the training rows."""
    batch_size: Count = 2
    """Rows per micro-batch."""
    accumulation: Count = 8
    """Micro-batches per update. The loss is averaged over the tokens of the whole update."""
    tokens_per_step: Tokens | None = None
    """`shared-prefix`: maximum tokens per micro-batch. Null: 1024 to 4096, as many as keep 1 GiB of float32 values."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate schedule after the warmup."""
    warmup_ratio: Share = 0.05
    """Share of the updates used for warmup."""
    optimizer: Literal["adamw", "adam", "sgd", "lion", "adafactor"] = "adamw"
    """MLX optimizer."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Weight decay (not with `adam`)."""
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] | None = 1.0
    """Maximum global gradient norm; null disables clipping."""
    lora_plus_ratio: Annotated[float, Field(ge=1, le=1000)] = 1.0
    """LoRA+: ratio of the learning rates of B and A."""
    evals_per_epoch: Count = 1
    """Validations (and checkpoints) per epoch."""
    patience: Count | None = None
    """Stop after this many validations without improvement; null disables early stopping."""
    select: Literal["loss", "task"] = "loss"
    """How to choose the checkpoint: by validation loss, or by the score of answers to validation questions."""
    select_best: Annotated[int, Field(ge=2, le=8)] = 3
    """`select: task`: number of lowest-loss checkpoints to score."""
    strength: StrengthSettings | None = None
    """Choose the adapter's strength after training; needs `dataset.rehearsal`, not with `method: dora`."""
    grad_checkpoint: bool = False
    """`shared-prefix`: recompute activations in the backward pass. Uses less memory and more time."""
    frozen_store: bool = False
    """`shared-prefix` with `layers: N`: compute the layers below once and keep their outputs on disk."""
    from_adapter: File | None = None
    """Start from this adapter of mlx-lm or PEFT, of the recipe's shape: a folder, that of a run, or `hf:USER/NAME`."""
    kl: KLSettings | None = None
    """`shared-prefix`: keep the model near the base by a KL term. Costs a forward pass of the base on its rows."""
    preference: PreferenceSettings | None = None
    """`shared-prefix`: prefer answers to rejected ones. The prompt is computed once for both."""
    report_to: tuple[Literal["wandb", "swanlab"], ...] = ()
    """`shared-prefix`: experiment trackers."""

    @property
    def step_tokens(self) -> int:
        """``tokens_per_step``, which ``tuning.step_size.with_step`` has set."""
        assert self.tokens_per_step is not None  # noqa: S101 (every run sets it before it starts)
        return self.tokens_per_step

    @property
    def lora_scale(self) -> float:
        """The factor on B·A: `scale`, α/r, or α/√r (rsLoRA, arXiv 2312.03732)."""
        if self.scale is not None:
            return self.scale
        assert self.alpha is not None  # noqa: S101 (validated by load_recipe)
        return float(self.alpha) / (self.rank**0.5 if self.rank_stabilized else self.rank)
