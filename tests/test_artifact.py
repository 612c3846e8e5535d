"""Artifacts: finished or absent, whatever kills the process; shared, locked and linked."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from mlx_ragtune.artifact import (
    Artifact,
    Store,
    declared_view,
    digest_json,
    link_file,
    locked,
    read_artifact,
    require_disk,
    running,
    set_link,
)
from mlx_ragtune.errors import ArtifactError, ToolError

KEY = "0123456789abcdef" * 4


def make(runs: Path, text: str = "hello", key: str = KEY, *, fresh: bool = False) -> Artifact:
    store = Store(runs)
    draft = store.open_draft("train", key, fresh=fresh)
    (draft / "a.txt").write_text(text)
    (draft / "times.json").write_text(f"{len(text)} seconds")
    draft.record(words=1)
    return store.finish(draft, "train", {"key": key, "described": {}})


def test_a_finished_artifact_has_its_files_facts_and_key(tmp_path: Path) -> None:
    make(tmp_path)
    artifact = Store(tmp_path).find("train", KEY)
    assert artifact is not None
    assert (artifact.key, artifact.facts) == (KEY, {"words": 1})
    assert (artifact / "a.txt").read_text() == "hello"
    assert set(artifact.manifest["files"]) == {"a.txt", "times.json"}
    assert not list((tmp_path / ".store" / ".drafts").iterdir())


def test_content_is_the_bytes_of_the_named_files_alone(tmp_path: Path) -> None:
    first = make(tmp_path, "hello")
    content, everything = first.content(["a.txt"]), first.content(["*"])
    second = make(tmp_path, "hello", "f" * 64)
    assert second.content(["a.txt"]) == content
    third = make(tmp_path, "other", "e" * 64)
    assert third.content(["a.txt"]) != content
    assert third.content(["times.json"]) == first.content(["times.json"])
    assert everything != content


def test_an_unfinished_draft_is_not_an_artifact_and_is_found_again(tmp_path: Path) -> None:
    draft = Store(tmp_path).open_draft("train", KEY)
    (draft / "half.txt").write_text("half")
    assert Store(tmp_path).find("train", KEY) is None
    assert (Store(tmp_path).open_draft("train", KEY) / "half.txt").read_text() == "half"
    assert not (Store(tmp_path).open_draft("train", "f" * 64) / "half.txt").exists()


def test_a_redo_replaces_the_artifact_whole(tmp_path: Path) -> None:
    make(tmp_path, "old")
    artifact = make(tmp_path, "new", fresh=True)
    assert (artifact / "a.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / ".store" / "train").iterdir()] == [KEY[:16]]


def test_a_key_that_differs_after_its_first_digits_is_another_artifact(tmp_path: Path) -> None:
    make(tmp_path)
    assert Store(tmp_path).find("train", KEY[:16] + "f" * 48) is None


@pytest.mark.parametrize("damage", ["shorten", "remove", "manifest", "manifest-type", "manifest-empty"])
def test_a_damaged_artifact_is_refused_with_the_remedy(tmp_path: Path, damage: str) -> None:
    folder = make(tmp_path).folder
    if damage == "shorten":
        (folder / "a.txt").write_text("h")
    elif damage == "remove":
        (folder / "a.txt").unlink()
    else:
        texts = {"manifest": "{", "manifest-type": json.dumps({"files": 3}), "manifest-empty": ""}
        (folder / "manifest.json").write_text(texts[damage])
    with pytest.raises(ArtifactError) as caught:
        read_artifact(folder)
    assert f"rm -r {folder}" in caught.value.fix


def test_a_file_that_is_gone_from_an_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"'b\.txt' is missing"):
        make(tmp_path) / "b.txt"


def test_digests_do_not_depend_on_key_order_and_do_on_every_value() -> None:
    assert digest_json({"a": 1, "b": [1, 2]}) == digest_json({"b": [1, 2], "a": 1})
    assert digest_json({"a": 1}) != digest_json({"a": 2})
    assert digest_json("\ud83d")  # a lone surrogate is a value too


def test_a_second_run_is_refused_and_names_the_process(tmp_path: Path) -> None:
    with locked(tmp_path) as holder:
        holder.write_text(f"{os.getpid()}\ntrain\n")
        assert running(tmp_path) == (os.getpid(), "train")
        with pytest.raises(ArtifactError, match=str(os.getpid())), locked(tmp_path):
            pass
    assert running(tmp_path) is None
    with locked(tmp_path):
        pass


def test_a_process_that_is_gone_is_not_running(tmp_path: Path) -> None:
    (tmp_path / ".running").write_text(f"{os.getpid()}\ntrain\n")  # its number may belong to another process by now
    (tmp_path / ".lock").touch()
    assert running(tmp_path) is None


def test_two_builders_of_one_part_build_it_once(tmp_path: Path) -> None:
    built: list[int] = []
    inside = threading.Event()

    def build(folder: Path) -> None:
        built.append(1)
        inside.wait(5)
        (folder / "x").write_text("x")

    def second() -> None:
        inside.set()
        Store(tmp_path).part("gguf", {"a": 1}, build)

    first = threading.Thread(target=lambda: Store(tmp_path).part("gguf", {"a": 1}, build))
    first.start()
    second()
    first.join()
    assert built == [1]
    assert (Store(tmp_path).part("gguf", {"a": 1}, build) / "x").read_text() == "x"
    assert Store(tmp_path).part("gguf", {"a": 2}, build).exists()


def test_a_part_whose_builder_fails_is_not_there(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ToolError("no disk space left")

    with pytest.raises(ToolError):
        Store(tmp_path).part("gguf", {}, fail)
    folder = Store(tmp_path).part("gguf", {}, lambda folder: None)
    assert not list(folder.iterdir())


def test_a_link_is_repointed_and_never_replaces_a_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / ".store" / name).mkdir(parents=True)
    (tmp_path / "run").mkdir()
    link = tmp_path / "run" / "3-train"
    for name in ("one", "two"):
        set_link(link, tmp_path / ".store" / name)
        assert link.resolve().name == name
    assert str(link.readlink()) == "../.store/two"
    link.unlink()
    link.mkdir()
    with pytest.raises(ArtifactError, match="in the place of a link"):
        set_link(link, tmp_path / ".store" / "one")


def test_a_view_holds_the_declared_files_only(tmp_path: Path) -> None:
    (tmp_path / "artifact" / "model").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "model/c.txt"):
        (tmp_path / "artifact" / name).write_text(name)
    folder = declared_view(tmp_path / "view", tmp_path / "artifact", ["a.txt", "model/*"])
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.txt")) == ["a.txt", "model/c.txt"]


def test_a_hard_link_uses_no_disk(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    link_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").stat().st_nlink == 2


def test_rows_of_a_redone_sqlite_cache_replace_those_with_the_same_key(tmp_path: Path) -> None:
    def add(path: Path, key: str, value: str) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS job (key TEXT PRIMARY KEY, value TEXT)")
            connection.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (key, value))
        connection.close()

    store = Store(tmp_path)
    shared = store.open_draft("dataset", KEY).cache("jobs.sqlite")
    add(shared, "a", "old")
    add(shared, "b", "kept")
    draft = store.open_draft("dataset", KEY, fresh=True)
    assert not draft.cache("jobs.sqlite").exists()
    add(draft.cache("jobs.sqlite"), "a", "new")
    store.finish(draft, "dataset", {"key": KEY, "described": {}})
    with sqlite3.connect(shared) as connection:
        assert dict(connection.execute("SELECT key, value FROM job").fetchall()) == {"a": "new", "b": "kept"}
    connection.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from mlx_ragtune import artifact
store, point = artifact.Store(Path(sys.argv[1])), sys.argv[2]
draft = store.open_draft("train", sys.argv[3], fresh=True)
(draft / "a.txt").write_text("new")
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if point == "before-manifest":
    artifact.digest_file = die
elif point == "before-rename":
    artifact.Store.promote = die
else:
    rename = Path.rename
    def patched(self, to):
        rename(self, to)
        if str(to).endswith(".old"):
            die()
    Path.rename = patched
store.finish(draft, "train", {"key": sys.argv[3], "described": {}})
"""


@pytest.mark.parametrize("point", ["before-manifest", "before-rename", "between-renames"])
def test_killed_while_finishing_leaves_a_whole_old_artifact_or_a_complete_draft(tmp_path: Path, point: str) -> None:
    make(tmp_path, "old")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), point, KEY]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    store = Store(tmp_path)
    artifact = store.find("train", KEY)
    complete = read_artifact(store.draft_folder("train", KEY, fresh=True))
    assert (artifact is None) == (point == "between-renames")
    assert artifact is None or (artifact / "a.txt").read_text() == "old"
    assert (complete is None) == (point == "before-manifest")
    assert (store.open_draft("train", KEY, fresh=True) / "a.txt").read_text() == "new"


def test_too_small_a_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="GiB are free"):
        require_disk(tmp_path / "not" / "there", 2**60, what="the export")
    require_disk(tmp_path, 1, what="the export")
