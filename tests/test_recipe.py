"""Recipes: what is read, what is refused, and how it is said."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_ragtune.errors import RecipeError
from mlx_ragtune.recipe import PROJECTIONS
from mlx_ragtune.recipe_load import load_recipe

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))

SMALL = """\
base: {model: "toy:qwen3", precision: fp32}
corpus: {folder: papers}
dataset: {pairs: pairs.jsonl}
train: {rank: 4, alpha: 8}
benchmark: benchmark.jsonl
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "papers").mkdir()
    (tmp_path / "recipes").mkdir()
    for name in ("pairs", "benchmark"):
        (tmp_path / f"{name}.jsonl").touch()
    return tmp_path


def write(home: Path, text: str, name: str = "small") -> Path:
    path = home / f"{name}.yaml"
    path.write_text(text)
    return path


def problems(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_recipe_in_the_folder_is_valid() -> None:
    assert {path.stem for path in RECIPES} >= {
        "demo", "smoke", "qwen3_4b_r16", "qwen3_4b_low_forgetting", "qwen3_8b", "qwen3_4b_16gb", "sweep_16gb",
        "sweep_32gb", "sweep_64gb", "source_experiment", "aloftrag",
    }  # fmt: skip
    for path in RECIPES:
        assert load_recipe(path).name == path.stem


def test_the_source_experiment_is_a_recipe_to_the_letter() -> None:
    recipe = load_recipe(ROOT / "recipes" / "qwen3_4b_r16.yaml")
    train = recipe.train
    assert (recipe.base.model, recipe.base.precision) == ("Qwen/Qwen3-4B", "bf16")
    assert (train.rank, train.alpha, train.dropout, train.epochs) == (16, 32, 0.05, 3)
    assert (train.batch_size, train.accumulation, train.learning_rate) == (2, 8, 2e-4)
    assert (train.schedule, train.warmup_ratio, train.target_modules) == ("cosine", 0.05, PROJECTIONS)
    assert (recipe.dataset.max_tokens, recipe.dataset.valid_share) == (2048, 0.05)
    assert (recipe.export.type, recipe.register.serve) == ("Q8_0", "ollama")


def test_a_recipe_is_named_by_its_file_and_its_paths_become_absolute(home: Path) -> None:
    recipe = load_recipe(write(home, SMALL, "mine"))
    assert recipe.name == "mine"
    assert recipe.corpus.folder == home / "papers"
    assert "unknown key 'name'" in problems(write(home, SMALL + "name: other\n"))


def test_all_problems_come_at_once_each_with_its_line(home: Path) -> None:
    text = SMALL.replace("{rank: 4, alpha: 8}", "\n  rnk: 4\n  alpha: 8\n  alpha: 9\n  dropout: 2\n  epochs: many")
    said = problems(write(home, text + "bogus: 1\n"))
    assert "small.yaml:5: unknown key 'train.rnk', did you mean 'rank'?" in said
    assert "small.yaml:7: duplicate key 'alpha' (first on line 6)" in said
    assert "small.yaml:8: train.dropout: input should be less than 1, not 2" in said
    assert "small.yaml:9: train.epochs:" in said
    assert "small.yaml:11: unknown key 'bogus'" in said
    assert "5 problems" in said


def test_exponents_without_a_dot_are_numbers_and_no_is_text(home: Path) -> None:
    recipe = load_recipe(write(home, SMALL.replace("alpha: 8", "alpha: 8, learning_rate: 1e-5")))
    assert recipe.train.learning_rate == 1e-5
    assert "not 'no'" in problems(write(home, SMALL.replace("alpha: 8", "alpha: 8, grad_checkpoint: no")))


def test_numbers_in_quotes_are_not_numbers(home: Path) -> None:
    assert "not '4'" in problems(write(home, SMALL.replace("rank: 4", "rank: '4'")))


@pytest.mark.parametrize("value", [".nan", ".inf", "-1", "0"])
def test_a_learning_rate_that_is_no_rate_is_refused(home: Path, value: str) -> None:
    assert "train.learning_rate" in problems(
        write(home, SMALL.replace("alpha: 8", f"alpha: 8, learning_rate: {value}"))
    )


def test_alpha_and_scale_exclude_each_other(home: Path) -> None:
    assert "exactly one of 'alpha' and 'scale'" in problems(
        write(home, SMALL.replace("alpha: 8", "alpha: 8, scale: 2"))
    )
    assert "exactly one of 'alpha' and 'scale'" in problems(write(home, SMALL.replace(", alpha: 8", "")))


def test_alpha_over_rank_is_the_scale_and_rslora_takes_the_root(home: Path) -> None:
    assert load_recipe(write(home, SMALL)).train.lora_scale == 2
    stabilized = SMALL.replace("alpha: 8", "alpha: 8, rank_stabilized: true")
    assert load_recipe(write(home, stabilized)).train.lora_scale == 4


def test_shares_must_sum_to_one(home: Path) -> None:
    text = SMALL.replace("pairs.jsonl}", "pairs.jsonl, shares: {grounded: 0.6, synthesis: 0.2, refusal: 0.1}}")
    assert "must sum to 1, not 0.9" in problems(write(home, text))


def test_pairs_and_generator_exclude_each_other(home: Path) -> None:
    text = SMALL.replace("pairs.jsonl}", "pairs.jsonl, generator: {model: x}}")
    assert "exactly one of 'pairs' and 'generator'" in problems(write(home, text))


def test_a_missing_file_is_named_with_its_key(home: Path) -> None:
    (home / "pairs.jsonl").unlink()
    assert "small.yaml:3: dataset.pairs: 'pairs.jsonl' does not exist" in problems(write(home, SMALL))


@pytest.mark.parametrize("path", ["../../../../../../../../etc", "~/../../../../../../../../etc"])
def test_a_relative_path_out_of_the_project_and_the_home_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HOME", str(home / "nobody"))
    said = problems(write(home, SMALL.replace("folder: papers", f"folder: {path}")))
    assert f"small.yaml:2: corpus.folder: '{path}' is outside the project" in said
    assert "write the absolute path" in said


def test_an_absolute_path_may_be_on_another_volume(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path_factory.mktemp("volume")
    monkeypatch.setenv("HOME", str(home / "nobody"))
    text = SMALL.replace("folder: papers", f"folder: {volume}").replace('"toy:qwen3"', str(volume))
    recipe = load_recipe(write(home, text))
    assert (recipe.corpus.folder, recipe.base.model) == (volume, str(volume))


def test_a_link_in_the_home_folder_may_lead_to_another_volume(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path_factory.mktemp("volume")
    monkeypatch.setenv("HOME", str(home))
    (home / "disk").symlink_to(volume)
    for path in ("disk", "~/disk"):
        assert load_recipe(write(home, SMALL.replace("folder: papers", f"folder: {path}"))).corpus.folder == volume


def test_a_link_out_of_a_project_that_is_not_in_the_home_folder_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(home / "nobody"))
    (home / "link").symlink_to("/etc")
    assert "outside the project" in problems(write(home, SMALL.replace("folder: papers", "folder: link")))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("folder: papers", "folder: pairs.jsonl", "small.yaml:2: corpus.folder: 'pairs.jsonl' is not a folder"),
        ("pairs.jsonl", "papers", "small.yaml:3: dataset.pairs: 'papers' is not a file"),
        ("folder: papers", f"folder: {'x' * 300}", "File name too long"),
        ("folder: papers", r'folder: "pa\0pers"', "control character U+0000 is not allowed"),
        ("folder: papers", r'folder: "pa\uDCFFpers"', "control character U+DCFF is not allowed"),
        ("folder: papers", "folder: loop", "cannot be used"),
        ("folder: papers", "folder: pairs.jsonl/x", "does not exist"),
        ("folder: papers", "folder: ~nobody-of-that-name/x", "cannot be used"),
    ],
)
def test_a_path_that_cannot_be_used_is_named_with_its_line(home: Path, old: str, new: str, said: str) -> None:
    (home / "loop").symlink_to(home / "loop")
    assert said in problems(write(home, SMALL.replace(old, new)))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text\n"])
def test_a_file_that_is_not_a_mapping_is_not_a_recipe(home: Path, text: str) -> None:
    assert "not a recipe" in problems(write(home, text))


def test_broken_yaml_names_the_line(home: Path) -> None:
    assert "small.yaml:2" in problems(write(home, "base: {model: x\ntrain: ]\n"))


def test_an_absent_recipe_names_the_next_command(tmp_path: Path) -> None:
    said = problems(tmp_path / "none.yaml")
    assert "cannot be read" in said
    assert "ragtune init" in said


def test_python_tags_are_not_run(home: Path) -> None:
    marker = home / "ran"
    text = SMALL.replace("rank: 4", f"rank: !!python/object/apply:os.mkdir ['{marker}']")
    problems(write(home, text))
    assert not marker.exists()


def test_anchors_cannot_blow_up(home: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "aliases" in problems(write(home, "\n".join(lines)))


def test_every_key_is_documented() -> None:
    from mlx_ragtune.recipe import Recipe

    def walk(model: type) -> list[str]:
        missing = []
        for name, field in model.model_fields.items():  # type: ignore[attr-defined]
            inner = field.annotation
            if hasattr(inner, "model_fields"):
                missing += walk(inner)
            elif not field.description:
                missing.append(f"{model.__name__}.{name}")
        return missing

    assert walk(Recipe) == []


BAD_YAML: dict[str, tuple[str | bytes, str]] = {
    "float tag": (SMALL + "seed: !!float abc\n", "small.yaml:6: tag '!!float' does not fit the value 'abc'"),
    "int tag": (SMALL + "seed: !!int 0x10\n", "small.yaml:6: tag '!!int' does not fit the value '0x10'"),
    "bool tag": (SMALL + "seed: !!bool 7\n", "small.yaml:6: tag '!!bool'"),
    "null tag": (SMALL + "seed: !!null 7\n", "small.yaml:6: tag '!!null'"),
    "scalar with the tag of a list": (SMALL + "seed: !!seq 7\n", "small.yaml:6: tag '!!seq' is not allowed"),
    "mapping with the tag of a text": (SMALL + "seed: !!str {a: 1}\n", "small.yaml:6: tag '!!str' is not allowed"),
    "set": (SMALL + "seed: !!set {a, b}\n", "tag '!!set' is not allowed"),
    "ordered map": (SMALL + "seed: !!omap [a: 1]\n", "tag '!!omap' is not allowed"),
    "binary": (SMALL + "seed: !!binary aGk=\n", "tag '!!binary' is not allowed"),
    "timestamp": (SMALL + "seed: !!timestamp 2001-01-01\n", "tag '!!timestamp' is not allowed"),
    "python object": (SMALL + "seed: !!python/object:os.system {}\n", "small.yaml:6: tag '!!python/object:os.system'"),
    "tag of its own": (SMALL + "seed: !mine 7\n", "tag '!mine' is not allowed"),
    "tag on the whole recipe": ("!!set {a, b}\n", "small.yaml:1: tag '!!set' is not allowed"),
    "5,000 digits": (SMALL + f"seed: {'9' * 5000}\n", "small.yaml:6: a number of 5000 digits is too long"),
    "huge exponent": (SMALL + "seed: 1e999999\n", "small.yaml:6: seed:"),
    "huge negative exponent": (SMALL.replace("alpha: 8", "alpha: 8, patience: 2, epochs: -1e999"), "train.epochs"),
    "date": (SMALL + "seed: 2001-01-01\n", "small.yaml:6: seed: input should be a valid integer, not '2001-01-01'"),
    "3,000 brackets": ("[" * 3000, "small.yaml:1: not valid YAML: nested deeper than 32 levels"),
    "20,000 nested lists": (SMALL + "seed: " + "[" * 20000 + "]" * 20000, "small.yaml:6"),
    "nested by indentation": ("".join(" " * n + "a:\n" for n in range(400)), "small.yaml:32: not valid YAML: nested"),
    "nested list marks": ("- " * 3000, "nested deeper than 32 levels"),
    "alias bomb": ("a: &a [x]\nb: [*a, *a]\n", "small.yaml:2: not valid YAML: aliases (*name) are not allowed"),
    "alias to itself": ("a: &a [*a]\n", "aliases"),
    "NUL byte": (SMALL + "seed: \0\n", "small.yaml:6: not valid YAML: control character U+0000 is not allowed"),
    "escape": (SMALL + "seed: \x1b[2J\n", "control character U+001B is not allowed"),
    "escape in quotes": (SMALL + r'seed: "\e[2J"' + "\n", "small.yaml:6: control character U+001B is not allowed"),
    "lone surrogate": (SMALL + r'seed: "\ud83d"' + "\n", "small.yaml:6: control character U+D83D is not allowed"),
    "no such character": (SMALL + r'seed: "\UFFFFFFFF"' + "\n", "small.yaml:6: not valid YAML"),
    "tab": (SMALL + "\tseed: 7\n", "small.yaml:6: not valid YAML"),
    "UTF-16": (SMALL.encode("utf-16"), "small.yaml:1: not UTF-8: byte 0xff\n  try: save the file as UTF-8"),
    "UTF-16 without a mark": (SMALL.encode("utf-16-le"), "control character U+0000"),
    "Latin-1": ((SMALL + "# na\xefve\n").encode("latin-1"), "small.yaml:6: not UTF-8: byte 0xef"),
    "list as a key": (SMALL + "? [a, b]\n: 7\n", "small.yaml:6: a list or a mapping cannot be a key"),
    "mapping as a key": (SMALL + "{a: 1}: 7\n", "a list or a mapping cannot be a key"),
    "number as a key": (SMALL + "7: x\n", "small.yaml:6: unknown key '7'"),
    "null as a key": (SMALL + "~: x\n", "small.yaml:6: unknown key '~'"),
    "empty key": (SMALL + "? \n: x\n", "small.yaml:6: unknown key ''"),
    "merge key": (SMALL + "<<: {seed: 7}\n", "small.yaml:6: merge keys ('<<') are not allowed"),
    "duplicate key": (SMALL + "seed: 7\nseed: 8\n", "small.yaml:7: duplicate key 'seed' (first on line 6)"),
    "duplicate section": (SMALL + "train: {rank: 8}\n", "small.yaml:6: duplicate key 'train' (first on line 4)"),
    "two documents": (SMALL + "---\n" + SMALL, "small.yaml:6: not valid YAML: more than one document"),
    "wrong directive": ("%YAML 9.9\n---\n" + SMALL, "small.yaml:1"),
    "unknown tag handle": (SMALL + "seed: !x!y 7\n", "small.yaml:6: not valid YAML"),
    "text as a section": (SMALL + "export: Q8_0\n", "small.yaml:6: export: input should be a section with keys, not"),
    "list as a section": (SMALL + "export: [Q8_0]\n", "small.yaml:6: export: input should be a section with keys, not"),
    "too large": (SMALL + "#" * 300_000, "larger than 256 KiB"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_no_yaml_leads_to_a_traceback(home: Path, kind: str) -> None:
    text, said = BAD_YAML[kind]
    path = home / "small.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in problems(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(home: Path) -> None:
    (home / "small.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_recipe(home / "small.yaml").train.rank == 4


@pytest.mark.parametrize("text", ["rank: !!int 4", 'rank: !!int "4"', "rank: &anchor 4", "rank: +4", "rank: 04"])
def test_harmless_yaml_is_still_read(home: Path, text: str) -> None:
    assert load_recipe(write(home, SMALL.replace("rank: 4", text))).train.rank == 4


def test_a_recipe_that_is_not_a_readable_file_is_named(home: Path) -> None:
    assert "a directory, expected a recipe file" in problems(home / "papers")
    os.mkfifo(home / "pipe.yaml")
    assert "a device or a pipe" in problems(home / "pipe.yaml")
    assert "no such file" in problems(home / "absent.yaml")
    assert "cannot be read" in problems(home / f"{'x' * 300}.yaml")
    assert "cannot be read" in problems(home / "a\0b.yaml")
    if os.geteuid():
        locked = write(home, SMALL, "locked")
        locked.chmod(0)
        assert "Permission denied" in problems(locked)


@pytest.mark.parametrize(
    ("stem", "better"),
    [("My Recipe", "my-recipe"), ("mine.v2", "mine-v2"), ("Ärger", "rger"), ("-x", "x"), ("ok" * 40, "ok" * 32)],
)
def test_a_file_name_that_cannot_name_a_run_says_how_to_rename_it(home: Path, stem: str, better: str) -> None:
    said = problems(write(home, SMALL, stem))
    assert f"the file name '{stem}' cannot name a run" in said
    assert f"rename the file, for example to '{better}.yaml'" in said
    assert "1 problem " in said


TRAIN = "train: {rank: 4, alpha: 8}"
PAIRS = "dataset: {pairs: pairs.jsonl}"
UNUSED_KEYS: dict[str, tuple[str, str]] = {
    "train.tokens_per_step": (TRAIN, "train: {rank: 4, alpha: 8, engine: mlx-lm, tokens_per_step: 4096}"),
    "train.report_to": (TRAIN, "train: {rank: 4, alpha: 8, engine: mlx-lm, report_to: [wandb]}"),
    "train.grad_checkpoint": (TRAIN, "train: {rank: 4, alpha: 8, engine: mlx-lm, grad_checkpoint: true}"),
    "train.kl": (TRAIN, "train: {rank: 4, alpha: 8, engine: mlx-lm, kl: {tokens: all}}"),
    "train.weight_decay": (TRAIN, "train: {rank: 4, alpha: 8, optimizer: adam, weight_decay: 0.1}"),
    "train.select_best": (TRAIN, "train: {rank: 4, alpha: 8, select_best: 3}"),
    "train.rank_stabilized": (TRAIN, "train: {rank: 4, scale: 8, rank_stabilized: true}"),
    "train.frozen_store": (TRAIN, "train: {rank: 4, alpha: 8, frozen_store: true}"),
    "train.patience": (TRAIN, "train: {rank: 4, alpha: 8, epochs: 1, patience: 1}"),
    "register.route": (TRAIN, TRAIN + "\nregister: {serve: llamacpp, route: gguf}"),
    "register.name": (TRAIN, TRAIN + "\nregister: {name: mine}"),
    "register.host": (TRAIN, TRAIN + "\nregister: {host: 'http://127.0.0.1:11434'}"),
    "dataset.generator.hosts": (
        PAIRS, "dataset: {generator: {backend: llamacpp, model: pairs.jsonl, hosts: ['http://a:1']}}",
    ),
    "dataset.generator.pairs_per_call": (
        PAIRS,
        "dataset: {shares: {grounded: 0.7, synthesis: 0, refusal: 0.3}, "
        "generator: {model: x, answers: quoted, pairs_per_call: 2}}",
    ),
    "dataset.refusal_kinds": (PAIRS, "dataset: {generator: {model: x}, refusal_kinds: [near_miss]}"),
    "scoring.judge.host": (
        TRAIN, TRAIN + "\nscoring: {judge: {backend: llamacpp, model: pairs.jsonl, host: 'http://a:1'}}",
    ),
    "scoring.similarity.host": (TRAIN, TRAIN + "\nscoring: {similarity: {host: 'http://a:1'}}"),
    "evaluate.sampling.top_k": (TRAIN, TRAIN + "\nevaluate: {sampling: {top_k: 40}}"),
    "evaluate.sampling.top_p": (TRAIN, TRAIN + "\nevaluate: {sampling: {temperature: 0, top_p: 0.9}}"),
    "evaluate.sampling.min_p": (TRAIN, TRAIN + "\nevaluate: {sampling: {temperature: 0.0, min_p: 0.1}}"),
    "evaluate.seeds": (TRAIN, TRAIN + "\nevaluate: {seeds: [0, 1]}"),
    "evaluate.sampling.max_tokens": (TRAIN, TRAIN + "\nevaluate: {sampling: {max_tokens: 4096}}"),
    "base.revision": ('model: "toy:qwen3"', 'model: "toy:qwen3", revision: main'),
    "base.package": ('model: "toy:qwen3"', "model: ./papers, package: x"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("generator", "problem"),
    [
        ("{backend: openai, model: x}", "dataset.generator.backend: 'backend: openai' needs 'hosts'"),
        ("{backend: openai, model: x, hosts: ['http://k:s@a/v1']}", "credentials do not belong in a recipe"),
        ("{backend: mlx, model: 'a model'}", "dataset.generator.model: 'a model' is not a hub id"),
        ("{backend: mlx, model: ./nowhere}", "dataset.generator.model: "),
        ("{backend: mlx, model: a/b, hosts: ['http://a:1']}", "dataset.generator.hosts: no effect with"),
        ("{backend: llamacpp, model: 'a model'}", "dataset.generator.model: 'a model' is not a hub id"),
        ("{backend: llamacpp, model: ./nowhere.gguf}", "dataset.generator.model: "),
        ("{backend: ollama, model: x, package: y}", "dataset.generator.package: no effect with"),
        ("{backend: mlx, model: 'ollama:x', package: y}", "dataset.generator.package: no effect with"),
        ("{backend: llamacpp, model: ./papers, package: y}", "dataset.generator.package: no effect with"),
    ],
)
def test_a_generator_that_cannot_be_opened_is_refused(home: Path, generator: str, problem: str) -> None:
    said = problems(write(home, SMALL.replace(PAIRS, f"dataset: {{generator: {generator}}}")))
    assert problem in said
    assert "s@a" not in said


def test_quoted_answers_have_no_synthesis_pairs(home: Path) -> None:
    quoted = "generator: {model: x, answers: quoted}"
    said = problems(write(home, SMALL.replace(PAIRS, f"dataset: {{{quoted}}}")))
    assert "dataset.shares: 'answers: quoted' quotes one paper and writes no synthesis pairs" in said
    assert "shares: {grounded: 0.75, synthesis: 0, refusal: 0.25}" in said
    shares = "shares: {grounded: 0.75, synthesis: 0, refusal: 0.25}"
    recipe = load_recipe(write(home, SMALL.replace(PAIRS, f"dataset: {{{quoted}, {shares}}}")))
    assert recipe.dataset.generator is not None
    assert recipe.dataset.generator.answers == "quoted"


def test_every_backend_of_a_generator_is_read(home: Path) -> None:
    for generator in (
        "{backend: openai, model: x, hosts: ['http://127.0.0.1:1234/v1', 'https://box/v1'], slots: 4}",
        "{backend: mlx, model: Qwen/Qwen3-4B, slots: 8}",
        "{backend: llamacpp, model: pairs.jsonl, slots: 4}",
        "{backend: mlx, model: ./papers}",
    ):
        recipe = load_recipe(write(home, SMALL.replace(PAIRS, f"dataset: {{generator: {generator}}}")))
        settings = recipe.dataset.generator
        assert settings is not None
        assert not settings.model.startswith(".")


@pytest.mark.parametrize("key", UNUSED_KEYS)
def test_a_key_without_effect_is_refused_with_its_line(home: Path, key: str) -> None:
    old, new = UNUSED_KEYS[key]
    text = SMALL.replace(old, new)
    assert text != SMALL
    line = next(number for number, row in enumerate(text.splitlines(), 1) if f"{key.split('.')[-1]}:" in row)
    assert f"small.yaml:{line}: {key}: " in problems(write(home, text))


@pytest.mark.parametrize("kl", ["{}", "{weight: 0.2}", "{tokens: rehearsal}"])
def test_the_kl_of_rehearsal_rows_needs_such_rows(home: Path, kl: str) -> None:
    said = problems(write(home, SMALL.replace("alpha: 8", f"alpha: 8, kl: {kl}")))
    assert "small.yaml:4: train.kl: 'tokens: rehearsal' needs 'dataset.rehearsal'" in said


@pytest.mark.parametrize(
    "train",
    [
        "rank: 4, alpha: 8, optimizer: adam, weight_decay: 0",
        "rank: 4, alpha: 8, optimizer: adafactor, weight_decay: 0.1",
        "rank: 4, alpha: 8, engine: mlx-lm, grad_checkpoint: false, report_to: [], patience: null",
        "rank: 4, alpha: 8, select: task, select_best: 4",
        "rank: 4, scale: 8, rank_stabilized: false, alpha: null",
        "rank: 4, alpha: 8, layers: 2, frozen_store: true, kl: {tokens: all, weight: 0.5}",
        "rank: 4, alpha: 8, epochs: 2, patience: 2",
        "rank: 4, alpha: 8, strength: null",
    ],
)
def test_a_key_with_an_effect_or_switched_off_is_accepted(home: Path, train: str) -> None:
    load_recipe(write(home, SMALL.replace("rank: 4, alpha: 8", train)))


@pytest.mark.parametrize(
    "rest",
    [
        "register: {serve: ollama, route: gguf, name: mine, host: 'http://a:1'}",
        "evaluate: {seeds: [0, 1], sampling: {temperature: 0.7, top_k: 40, top_p: 0.9, min_p: 0.1}}",
        "evaluate: {sampling: {top_k: 0, top_p: 1, min_p: 0}}",
        "scoring: {judge: none}",
        "scoring: {judge: {model: x, host: 'http://a:1'}, similarity: {backend: ollama, model: y, host: b}}",
    ],
)
def test_serving_and_sampling_keys_with_an_effect_are_accepted(home: Path, rest: str) -> None:
    load_recipe(write(home, SMALL + rest + "\n"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "-1"), ("seed", str(2**32)), ("seed", str(2**64)), ("evaluate.seeds", "[-1]"),
        ("evaluate.seeds", f"[{2**32}]"), ("evaluate.seeds", "[]"), ("evaluate.seeds", "[1, 1]"),
        ("evaluate.sampling.context_tokens", "100000000000"), ("evaluate.sampling.max_tokens", "100000000000"),
        ("evaluate.sampling.temperature", "1e30"), ("train.epochs", "1e12"), ("train.rank", "1000000"),
        ("train.layers", "1000000"), ("train.batch_size", "10000000"), ("train.accumulation", "10000000"),
        ("train.alpha", "1e300"), ("train.tokens_per_step", "100000000000"),
        ("train.patience", "100000000000"), ("train.evals_per_epoch", "100000000000"), ("train.target_modules", "[]"),
        ("dataset.max_tokens", "100000000000"), ("dataset.valid_share", "0"), ("dataset.valid_share", "0.6"),
        ("corpus.chunk_tokens", "100000000000"), ("corpus.overlap_tokens", "-1"), ("retrieval.top_k", "100000"),
    ],
)  # fmt: skip
def test_a_number_out_of_bounds_is_refused(home: Path, key: str, value: str) -> None:
    *parents, last = key.split(".")
    parsed = yaml.safe_load(SMALL)
    section = parsed
    for part in parents:
        section = section.setdefault(part, {})
    section[last] = yaml.safe_load(value)
    if isinstance(section[last], str):
        section[last] = float(value)
    assert f": {key}: " in problems(write(home, yaml.safe_dump(parsed))).replace(".0: ", ": ")


@pytest.mark.parametrize(
    ("valid", "test", "fits"),
    [(0.25, 0.25, True), (0.3, 0.2, True), (0.5, 0, True), (0.26, 0.25, False), (0.5, 0.01, False)],
)  # fmt: skip
def test_half_of_the_papers_may_be_held_out(home: Path, valid: float, test: float, fits: bool) -> None:
    path = write(home, SMALL.replace("pairs.jsonl}", f"pairs.jsonl, valid_share: {valid}, test_share: {test}}}"))
    if fits:
        load_recipe(path)
    else:
        assert "leave less than half" in problems(path)


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("train: {rank: 4, alpha: 8, rank_stabilised: true}", "train.rank_stabilised", "rank_stabilized"),
        ("train: {rank: 4, alpha: 8, optimiser: adam}", "train.optimiser", "optimizer"),
        ("train: {lora_rank: 4, alpha: 8}", "train.lora_rank", "rank"),
        ("train: {rank: 4, alpha: 8, lr: 1e-4}", "train.lr", "learning_rate"),
        ("train: {rank: 4, alpha: 8, max_seq_length: 64}", "train.max_seq_length", "dataset.max_tokens"),
        ("train: {rank: 4, alpha: 8}\nexport: {quantisation: Q8_0}", "export.quantisation", "type"),
        ("train: {rank: 4, alpha: 8}\nquantisation: Q8_0", "quantisation", "export.type"),
        ("train: {rank: 4, alpha: 8}\nepochs: 2", "epochs", "train.epochs"),
        ("train: {rank: 4, alpha: 8}\ncorpora: {}", "corpora", "corpus"),
        ("train: {rank: 4, alpha: 8}\nchunk_words: 350", "chunk_words", "corpus.chunk_tokens"),
    ],
)
def test_old_and_foreign_spellings_get_a_suggestion(home: Path, text: str, key: str, meant: str) -> None:
    said = problems(write(home, SMALL.replace("train: {rank: 4, alpha: 8}", text)))
    assert f"unknown key '{key}', did you mean '{meant}'?" in said


def test_keys_are_in_american_spelling() -> None:
    from mlx_ragtune.recipe import Recipe

    british = re.compile("is(e|ed|er|ation)(_|$)|our(_|$)|lling")
    assert british.search("rank_stabilised")
    assert not [name for name in _names(Recipe) if british.search(name)]


def _names(model: Any) -> list[str]:
    from mlx_ragtune.recipe_yaml import models_in

    names = []
    for name, field in model.model_fields.items():
        names.append(name)
        for inner in models_in(field.annotation):
            names += _names(inner)
    return names


@pytest.mark.parametrize(
    "host",
    [
        "http://[::1", "http://[::x]", "ftp://a:1", "file:///etc", "http://", "http://:11434", "http:/a", "http://a:99999",
        "http://a:x", "http://a:0", "http://a b:1", "http://a:", "http://a..b:1", "http://a:1?x=1", "http://a:1#x", "",
        "http://a\nb:1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_one_is_refused_with_its_line(home: Path, host: str) -> None:
    text = SMALL.replace("{pairs: pairs.jsonl}", f"{{generator: {{model: x, hosts: [{json.dumps(host)}]}}}}")
    said = problems(write(home, text + f"register: {{serve: ollama, host: {json.dumps(host)}}}\n"))
    assert ": dataset.generator.hosts.0: " in said
    assert ": register.host: " in said
    assert "write http://HOST:PORT" in said


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:11434", "https://ollama.example", "http://[::1]:11434", "box:11434"]
)
def test_an_address_that_is_one_is_accepted(home: Path, host: str) -> None:
    load_recipe(write(home, SMALL + f"register: {{serve: ollama, host: '{host}'}}\n"))


@pytest.mark.parametrize(
    "host", ["http://me:s3cret@box:1", "me:s3cret@box", "http://me:s3c/ret@box", "http://me:s3@cret@[::1"]
)
def test_credentials_in_an_address_are_refused_and_never_shown(home: Path, host: str) -> None:
    for rest in (f"register: {{serve: ollama, host: '{host}'}}", f"register: {{serve: ollama, host: ['{host}']}}"):
        said = problems(write(home, SMALL + rest + "\n"))
        assert "small.yaml:6: register.host: " in said
        assert not re.search("s3@|s3c|cret|c/ret", said), said
    assert "cret" not in problems(write(home, SMALL + f"register: '{host}'\n" if "//" in host else SMALL + "x: y\n"))
    assert "OLLAMA_HOST=http://USER:PASSWORD@HOST:PORT" in problems(
        write(home, SMALL + f"register: {{serve: ollama, host: '{host}'}}\n")
    )


@pytest.mark.parametrize("model", ["a/b/c", "https://huggingface.co/Qwen/Qwen3-4B", "", " ", "Qwen/../x", "a b", "C:x"])
def test_a_base_model_that_cannot_be_one_is_refused(home: Path, model: str) -> None:
    assert "small.yaml:1: base.model: " in problems(write(home, SMALL.replace("toy:qwen3", model)))


def test_contradictions_are_told_together_with_wrong_values_and_missing_paths(home: Path) -> None:
    text = "\n".join([
        "base: {model: 'toy:qwen3', revision: main}",
        "corpus: {folder: absent}",
        "dataset: {pairs: pairs.jsonl, generator: {model: x}}",
        "train: {rank: 0, alpha: 8, scale: 2, layers: some}",
        "register: {serve: ollama, host: 'ftp://x'}",
    ])  # fmt: skip
    said = problems(write(home, text))
    for part in (
        ":1: missing key 'benchmark'", ":1: base.revision: no effect", ":2: corpus.folder: 'absent' does not exist",
        ":3: dataset: give exactly one of", ":4: train: give exactly one of", ":4: train.rank: input should be greater",
        ":4: train.layers: input should be a valid integer or input should be 'all', not 'some'", ":5: register.host",
    ):  # fmt: skip
        assert part in said
    assert "8 problems" in said


def test_control_characters_of_a_recipe_never_reach_the_terminal(home: Path) -> None:
    said = problems(write(home, SMALL + '"\\e]0;x\\a": 1\n' + 'export: {type: "\\u202eQ8"}\n'))
    assert not any(character in said for character in "\x1b\x07\u202e")


def test_a_file_of_thousands_of_problems_is_refused_quickly(home: Path) -> None:
    said = problems(write(home, SMALL + "".join(f"k{n}: [{n}]\n" for n in range(3000))))
    assert "3000 problems" in said
    assert "and 2900 more" in said
    assert said.count("\n") < 110


YAML_PIECES = st.sampled_from(
    [*"[]{}:,-?*&!|>'\"%@`#~ \n\t0", "<<", "!!int", "1e5", "\\x", "\u2028", "\x85", "a: ", "- ", "train:", "rank", "\r"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=st.lists(YAML_PIECES | st.text(max_size=3), max_size=40).map("".join), after=st.booleans())
def test_any_text_loads_or_is_a_recipe_error(tmp_path_factory: pytest.TempPathFactory, text: str, after: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes((SMALL + text if after else text).encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError):
        load_recipe(path)


KEYS = sorted(".".join(place) for place in (
    ("seed",), ("base",), ("base", "model"), ("base", "revision"), ("corpus", "folder"), ("benchmark",), ("dataset",),
    ("dataset", "pairs"), ("dataset", "shares"), ("dataset", "generator"), ("dataset", "refusal_kinds"), ("train",),
    ("dataset", "valid_share"), ("train", "rank"), ("train", "alpha"), ("train", "layers"), ("train", "patience"),
    ("train", "epochs"), ("train", "target_modules"), ("register",), ("register", "host"), ("register", "name"),
    ("evaluate",), ("evaluate", "seeds"), ("evaluate", "sampling"), ("scoring", "judge"), ("scoring", "similarity"),
))  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3))
def test_any_value_loads_or_is_a_recipe_error(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    recipe = yaml.safe_load(SMALL)
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = recipe
        for part in parents:
            section = section.setdefault(part, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section[last] = value
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    with pytest.raises(RecipeError) as caught:  # the papers are not there, so nothing loads
        load_recipe(path)
    assert f"{path}:" in str(caught.value)


def test_an_overlap_of_more_than_half_a_chunk_is_refused(home: Path) -> None:
    recipe = SMALL.replace("folder: papers", "folder: papers, chunk_tokens: 100, overlap_tokens: 50")
    assert load_recipe(write(home, recipe)).corpus.overlap_tokens == 50
    said = problems(write(home, recipe.replace("overlap_tokens: 50", "overlap_tokens: 51")))
    assert "corpus.overlap_tokens: more than half of 'chunk_tokens' (100); lower 'overlap_tokens'" in said


OWN = "{pairs: pairs.jsonl, rehearsal: {share: 0.1}}"


@pytest.mark.parametrize(
    ("dataset", "rest", "said"),
    [
        ("{pairs: pairs.jsonl}", "strength: {}", "train.strength: needs the base model's own answers"),
        (OWN, "method: dora, strength: {}", "train.strength: not supported with 'method: dora'"),
        (OWN, "method: dora}\nfuse: {strength: 0.5", "fuse.strength: not supported with 'method: dora'"),
        (OWN, "strength: {scales: [0.5, 0.5]}", "train.strength.scales: give each factor once"),
        (OWN, "strength: {scales: [0]}", "train.strength.scales"),
        (OWN, "strength: 0.5", "train.strength"),
        (OWN.replace("0.1", "0.6"), "epochs: 1", "dataset.rehearsal.share"),
        (OWN.replace("share: 0.1", "prompts: none.jsonl"), "epochs: 1", "dataset.rehearsal.prompts"),
        ("{pairs: pairs.jsonl, shares: {grounded: 0.9, rehearsal: 0.1}}", "epochs: 1", "dataset.shares"),
        (OWN.replace("share", "shares"), "epochs: 1", "unknown key 'dataset.rehearsal.shares', did you mean"),
    ],
)
def test_rehearsal_and_strength_that_cannot_work_are_refused(home: Path, dataset: str, rest: str, said: str) -> None:
    text = SMALL.replace("{pairs: pairs.jsonl}", dataset).replace("alpha: 8", f"alpha: 8, {rest}")
    assert said in problems(write(home, text))


def test_rehearsal_and_strength_have_defaults_and_prompts_of_ones_own(home: Path) -> None:
    (home / "mine.jsonl").touch()
    text = SMALL.replace("{pairs: pairs.jsonl}", "{pairs: pairs.jsonl, rehearsal: {prompts: mine.jsonl}}")
    recipe = load_recipe(write(home, text.replace("alpha: 8", "alpha: 8, strength: {}") + "fuse: {strength: 0.5}\n"))
    assert recipe.dataset.rehearsal is not None
    assert recipe.dataset.rehearsal.prompts == home / "mine.jsonl"
    assert (recipe.dataset.rehearsal.share, recipe.dataset.rehearsal.max_tokens) == (0.1, 192)
    assert recipe.train.strength is not None
    assert recipe.train.strength.scales == (0.25, 0.4, 0.5, 0.65, 0.8, 1.0)
    assert recipe.fuse.strength == 0.5
    assert load_recipe(write(home, SMALL)).dataset.rehearsal is None
