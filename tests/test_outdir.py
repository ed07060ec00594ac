"""The output folder: all or nothing, never over what is not h4hc's, and its integrity check."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from h4hc import outdir
from h4hc.errors import ExitCode, IntegrityError, LimitError, UserError
from h4hc.manifest import MANIFEST, check_folder, foreign_names, read_checked, read_manifest
from h4hc.outdir import OutputFolder

FACTS = {"target": "npu+cim", "model_sha256": "0" * 64}


def write(out: Path, text: str = "one", *, force: bool = False) -> None:
    with OutputFolder(out, FACTS, force=force) as folder:
        folder.add("report.json", text.encode(), "report")
        folder.add("partitions/p0_npu.onnx", b"model", "partition")


def write_then(out: Path, last: Callable[[], None]) -> None:
    """Write a folder in which something happens just before the end."""
    with OutputFolder(out, FACTS) as folder:
        folder.add("a/b/report.json", b"new", "report")
        last()


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def fail(error: type[BaseException]) -> Callable[[], None]:
    def last() -> None:
        raise error

    return last


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A parent folder in which nothing but `out` may be left behind."""
    yield tmp_path / "out"
    left = {p.name for p in tmp_path.iterdir()}
    assert left <= {"out", "kept", "link"}, f"left behind: {left}"


def test_writes_all_files_and_a_canonical_manifest(place: Path) -> None:
    write(place)
    files = tree(place)
    assert set(files) == {"manifest.json", "report.json", "partitions/p0_npu.onnx"}
    data = json.loads(files["manifest.json"])
    assert data["target"] == "npu+cim"
    assert [f["path"] for f in data["files"]] == ["partitions/p0_npu.onnx", "report.json"]
    assert data["files"][1] == {
        "path": "report.json",
        "bytes": 3,
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        "role": "report",
    }
    assert files["manifest.json"] == (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()
    manifest = check_folder(place)
    assert [f.role for f in manifest.files] == ["partition", "report"]
    assert read_checked(place, manifest.files[1]) == b"one"


def test_same_input_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_umask_decides_the_mode(place: Path) -> None:
    old = os.umask(0o027)
    try:
        write(place)
    finally:
        os.umask(old)
    assert place.stat().st_mode & 0o777 == 0o750
    assert (place / "report.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("atomic", [True, False])
def test_replaces_its_own_folder(place: Path, atomic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not atomic:
        monkeypatch.setattr(outdir, "_exchange_atomically", lambda one, other: False)
    write(place, "one")
    write(place, "two")
    assert tree(place)["report.json"] == b"two"
    check_folder(place)


def test_replaces_an_empty_folder(place: Path) -> None:
    place.mkdir()
    write(place)
    check_folder(place)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_failure_changes_nothing(place: Path, error: type[BaseException]) -> None:
    write(place, "old")
    before = tree(place)
    with pytest.raises(error):
        write_then(place, fail(error))
    assert tree(place) == before


def test_failure_before_the_first_output_leaves_nothing(place: Path) -> None:
    with pytest.raises(RuntimeError):
        write_then(place, fail(RuntimeError))
    assert not place.exists()


@pytest.mark.parametrize("name", ["rename", "fsync", "open"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int) -> None:
    write(place, "old")
    before = tree(place)
    real: Callable[..., Any] = getattr(os, name)

    def full(path: Any, *more: Any, **options: Any) -> Any:
        if name == "open" and not more[0] & os.O_CREAT:
            return real(path, *more, **options)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, full)
        with pytest.raises(LimitError, match="no room") as caught:
            write(place, "new")
    assert caught.value.exit_code == ExitCode.LIMIT
    assert tree(place) == before


def test_refuses_a_folder_of_someone_else(place: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="was not made by h4hc") as caught:
        write(place)
    assert "--force" in caught.value.problems[0].hint
    assert tree(place) == {"thesis.tex": b"years of work"}
    write(place, force=True)
    check_folder(place)


@pytest.mark.parametrize("text", ["{}", "[1]", "not json", '{"format": "h4hc-output"}', "[" * 100_000])
def test_a_manifest_of_another_kind_is_not_ours(place: Path, text: str) -> None:
    place.mkdir()
    (place / MANIFEST).write_text(text)
    with pytest.raises(UserError, match="was not made by h4hc"):
        write(place)
    with pytest.raises(IntegrityError):
        read_manifest(place)


def test_refuses_to_lose_a_users_file_in_its_own_folder(place: Path) -> None:
    write(place)
    (place / "partitions" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that h4hc did not write") as caught:
        write(place, "two")
    assert caught.value.problems[0].where == ("partitions/notes.txt",)
    assert tree(place)["report.json"] == b"one"


def test_a_folder_that_appears_while_writing_is_kept(place: Path) -> None:
    def appear() -> None:
        place.mkdir()
        (place / "other").write_text("theirs")

    with pytest.raises(UserError, match="was not made by h4hc"):
        write_then(place, appear)
    assert tree(place) == {"other": b"theirs"}


def test_clear_errors_for_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write") as caught:
        write(tmp_path / "file")
    assert caught.value.problems[0].why == "it is not a folder"
    assert caught.value.exit_code == ExitCode.USAGE
    with pytest.raises(UserError) as caught:
        write(tmp_path / "no" / "out")
    assert "there is no folder" in caught.value.problems[0].why
    with pytest.raises(UserError) as caught:
        write(tmp_path / "file" / "out")
    assert "is not a folder" in caught.value.problems[0].why
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / ("n" * 250))
    monkeypatch.chdir(tmp_path)
    for force in (False, True):
        with pytest.raises(UserError, match="cannot be an output folder"):
            write(Path("."), force=force)
    with pytest.raises(UserError, match="cannot be an output folder"):
        write(Path("/"), force=True)
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_parent_that_may_not_be_written(place: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(UserError, match="cannot write") as caught:
            write(place)
    assert caught.value.problems[0].why == os.strerror(code)


def test_through_a_link_to_a_folder(place: Path) -> None:
    kept = place.parent / "kept"
    write(kept)
    (place.parent / "link").symlink_to(kept)
    write(place.parent / "link", "two")
    assert (place.parent / "link").is_symlink()
    assert tree(kept)["report.json"] == b"two"


def test_concurrent_writers_leave_one_whole_folder(place: Path) -> None:
    errors: list[BaseException] = []

    def work(text: str) -> None:
        try:
            for _ in range(10):
                write(place, text)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"writer {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    check_folder(place)


def test_a_killed_writer_leaves_the_old_folder(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from h4hc.outdir import OutputFolder\n"
        "with OutputFolder(Path(sys.argv[1]), {}) as folder:\n"
        "    folder.add('report.json', b'new', 'report')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -9
    check_folder(tmp_path / "out")
    assert tree(tmp_path / "out")["report.json"] == b"old"


def test_check_names_every_changed_missing_and_foreign_file(place: Path) -> None:
    with OutputFolder(place, FACTS) as folder:
        for name in ("a.json", "b.json", "c.json", "d.json", "e.json"):
            folder.add(name, b"text", "x")
    (place / "a.json").write_bytes(b"tExt")
    (place / "b.json").unlink()
    (place / "c.json").write_bytes(b"text and more")
    (place / "d.json").unlink()
    (place / "d.json").symlink_to("e.json")
    (place / "foreign").mkdir()
    (place / "foreign" / "f").touch()
    with pytest.raises(IntegrityError) as caught:
        check_folder(place)
    assert caught.value.exit_code == ExitCode.INTEGRITY
    found = {p.where[0]: p.what for p in caught.value.problems}
    assert set(found) == {"a.json", "b.json", "c.json", "d.json", "foreign"}
    assert "missing" in found["b.json"]
    assert "changed" in found["c.json"]
    assert "cannot be read" in found["d.json"]


def test_check_refuses_pipes_and_other_formats(place: Path) -> None:
    write(place)
    (place / "report.json").unlink()
    os.mkfifo(place / "report.json")
    with pytest.raises(IntegrityError, match="not a regular file"):
        check_folder(place)
    with pytest.raises(IntegrityError, match="no output folder"):
        check_folder(place.parent / "nothing")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "a/../b", "", "manifest.json", "a/b/c/d", "é"])
def test_manifest_cannot_name_files_elsewhere(place: Path, name: str) -> None:
    write(place)
    data = json.loads((place / MANIFEST).read_text())
    data["files"] = [{"path": name, "bytes": 0, "sha256": "0" * 64, "role": "x"}]
    (place / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match="damaged"):
        check_folder(place)


@pytest.mark.parametrize(
    ("key", "value"), [("schema_version", 99), ("format", "other"), ("files", None), ("target", 1)]
)
def test_damaged_manifest(place: Path, key: str, value: object) -> None:
    write(place)
    data = json.loads((place / MANIFEST).read_text())
    data[key] = value
    (place / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(IntegrityError, match="damaged"):
        check_folder(place)


def test_foreign_names_do_not_follow_links(place: Path) -> None:
    write(place)
    (place / "partitions" / "up").symlink_to(place.parent)
    assert foreign_names(place, read_manifest(place)) == ("partitions/up",)
