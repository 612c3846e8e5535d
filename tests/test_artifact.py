"""Artifacts: finished or not there, whatever kills the process."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mlx_ragtune.artifact import (
    digest_paths,
    fingerprint,
    finish,
    locked,
    open_draft,
    read_artifact,
    require_disk,
)
from mlx_ragtune.errors import ArtifactError, ToolError


def make(home: Path, text: str = "hello", work: str = "w1") -> None:
    draft = open_draft(home, "1-x", work)
    (draft / "a.txt").write_text(text)
    draft.record(words=1)
    finish(draft, home / "1-x", {"fingerprint": work, "described": {}})


def test_a_finished_artifact_has_its_files_facts_and_fingerprint(tmp_path: Path) -> None:
    make(tmp_path)
    artifact = read_artifact(tmp_path / "1-x")
    assert artifact is not None
    assert (artifact.fingerprint, artifact.facts) == ("w1", {"words": 1})
    assert (artifact / "a.txt").read_text() == "hello"
    assert set(artifact.manifest["files"]) == {"a.txt"}
    assert not (tmp_path / ".drafts" / "1-x").exists()


def test_an_unfinished_draft_is_no_artifact_and_is_found_again(tmp_path: Path) -> None:
    draft = open_draft(tmp_path, "1-x", "w1")
    (draft / "half.txt").write_text("half")
    assert read_artifact(tmp_path / "1-x") is None
    assert (open_draft(tmp_path, "1-x", "w1") / "half.txt").read_text() == "half"


def test_a_draft_of_other_work_is_not_gone_on_with_but_for_the_carried_files(tmp_path: Path) -> None:
    draft = open_draft(tmp_path, "1-x", "w1")
    (draft / "half.txt").write_text("half")
    (draft / "answers.jsonl").write_text("{}\n")
    again = open_draft(tmp_path, "1-x", "w2", carries=("answers.jsonl",))
    assert not (again / "half.txt").exists()
    assert (again / "answers.jsonl").read_text() == "{}\n"


def test_carried_files_come_from_the_finished_artifact_where_there_is_no_draft(tmp_path: Path) -> None:
    make(tmp_path)
    assert (open_draft(tmp_path, "1-x", "w2", carries=("a.txt",)) / "a.txt").read_text() == "hello"


def test_a_new_artifact_replaces_the_old_one_whole(tmp_path: Path) -> None:
    make(tmp_path, "old")
    make(tmp_path, "new", "w2")
    artifact = read_artifact(tmp_path / "1-x")
    assert artifact is not None
    assert (artifact / "a.txt").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".drafts", "1-x"]


@pytest.mark.parametrize("damage", ["shorten", "remove", "manifest", "manifest-type"])
def test_a_damaged_artifact_is_refused_with_the_remedy(tmp_path: Path, damage: str) -> None:
    make(tmp_path)
    folder = tmp_path / "1-x"
    if damage == "shorten":
        (folder / "a.txt").write_text("h")
    elif damage == "remove":
        (folder / "a.txt").unlink()
    else:
        (folder / "manifest.json").write_text("{" if damage == "manifest" else json.dumps({"files": 3}))
    with pytest.raises(ArtifactError) as caught:
        read_artifact(folder)
    assert "rm -r" in caught.value.fix


def test_a_file_that_is_gone_from_an_artifact_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    artifact = read_artifact(tmp_path / "1-x")
    assert artifact is not None
    with pytest.raises(ArtifactError, match=r"'b\.txt' is missing"):
        artifact / "b.txt"


def test_fingerprints_do_not_depend_on_key_order_and_do_on_every_value() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_digests_follow_names_and_contents_and_skip_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "a.md").write_text("x")
    (folder / ".hidden").write_text("x")
    first = digest_paths([folder])
    assert list(first) == ["papers/a.md"]
    (folder / "a.md").rename(folder / "b.md")
    assert digest_paths([folder]) != first


def test_a_second_run_is_refused_and_names_the_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ArtifactError, match=str(os.getpid())), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from mlx_ragtune import artifact
home, point = Path(sys.argv[1]), sys.argv[2]
draft = artifact.open_draft(home, "1-x", "w2")
(draft / "a.txt").write_text("new")
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if point == "before-manifest":
    artifact.digest_file = die
elif point == "before-rename":
    artifact.promote = die
else:
    rename = Path.rename
    def patched(self, to):
        rename(self, to)
        if self.name == "1-x" and to.name == "1-x.old":
            die()
    Path.rename = patched
artifact.finish(draft, home / "1-x", {"fingerprint": "w2", "described": {}})
"""


@pytest.mark.parametrize("point", ["before-manifest", "before-rename", "between-renames"])
def test_killed_while_finishing_leaves_a_whole_old_artifact_or_a_complete_draft(tmp_path: Path, point: str) -> None:
    make(tmp_path, "old")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), point], check=False)
    assert done.returncode == -signal.SIGKILL
    artifact = read_artifact(tmp_path / "1-x")
    complete = read_artifact(tmp_path / ".drafts" / "1-x")
    if point == "between-renames":
        assert artifact is None
    else:
        assert artifact is not None
        assert (artifact / "a.txt").read_text() == "old"
    assert (complete is None) == (point == "before-manifest")
    again = open_draft(tmp_path, "1-x", "w2") if complete is None else complete
    assert (again / "a.txt").read_text() == "new"


def test_too_small_a_disk_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="GiB are free"):
        require_disk(tmp_path / "not" / "there", 2**60, what="the export")
    require_disk(tmp_path, 1, what="the export")
