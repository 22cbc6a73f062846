"""The log of typed captions: what is kept and what is not, threads, kills, bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from vislm_tutorial.serving.collect import LONGEST, CaptionLog, Typed, looks_private


def test_what_was_typed_is_read_back_with_its_feedback(tmp_path):
    log = CaptionLog(tmp_path)
    assert log.append([Typed("a red circle", "1", 7), Typed("ein blaues Quadrat 🟦", "2")]) == 2
    log.feedback("1", False)
    log.feedback("1", True)  # the last word counts
    first, second = CaptionLog(tmp_path).read()
    assert (first.caption, first.id, first.seed, first.right) == ("a red circle", "1", 7, True)
    assert second.caption.endswith("🟦") and second.right is None
    assert first.minute > 29_000_000  # minutes, so no finer than that


def test_a_line_holds_nothing_else(tmp_path):
    log = CaptionLog(tmp_path)
    log.append([Typed("x" * (LONGEST + 50), "1", minute=5)])
    (line,) = log.files()[0].read_text().splitlines()
    record = json.loads(line)
    assert record.keys() == {"kind", "minute", "id", "caption", "seed"}
    assert len(record["caption"]) == LONGEST and record["minute"] == 5
    assert log.files()[0].stat().st_mode & 0o077 == 0  # for its owner's eyes


@pytest.mark.parametrize(
    "caption",
    ["mail ann@host.example", "see https://a.example/x", "WWW.a.example", "call 0171 234 567"],
)
def test_what_identifies_someone_is_not_kept(tmp_path, caption):
    log = CaptionLog(tmp_path)
    assert looks_private(caption) and log.append([Typed(caption, "1")]) == 0
    assert log.read() == []


@pytest.mark.parametrize("caption", ["a red circle", "3 circles, 2 squares", "a star in 2024", ""])
def test_plain_captions_are(caption):
    assert not looks_private(caption)


def test_old_files_go_when_there_is_no_room(tmp_path):
    log = CaptionLog(tmp_path, max_bytes=1_000, max_files=3)
    for i in range(100):
        log.append([Typed(f"caption {i}", str(i))])
    files = log.files()
    assert len(files) == 3 and sum(f.stat().st_size for f in files) < 3 * 1_200
    kept = [entry.caption for entry in log.read()]
    assert kept == [f"caption {i}" for i in range(100 - len(kept), 100)] and 10 < len(kept) < 60
    with pytest.raises(ValueError, match="max_bytes is 10"):
        CaptionLog(tmp_path, max_bytes=10)


def test_many_threads_lose_nothing(tmp_path):
    log = CaptionLog(tmp_path, max_bytes=4_000, max_files=100)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: log.append([Typed(f"caption {i}", str(i))]), range(200)))
    assert {entry.id for entry in log.read()} == {str(i) for i in range(200)} and log.torn == 0


def test_a_torn_line_is_passed_over_and_left_behind(tmp_path):
    log = CaptionLog(tmp_path)
    log.append([Typed("first", "1"), Typed("second", "2")])
    (path,) = log.files()
    path.write_bytes(path.read_bytes()[:-9])  # as if power had failed
    log.append([Typed("third", "3")])
    assert [entry.caption for entry in log.read()] == ["first", "third"] and log.torn == 1


@pytest.mark.parametrize(
    "line", [b"[]", b"7", b'{"kind": "x"}', b'{"kind": "typed", "id": 3}', b"\xff\xfe", b"{}"]
)
def test_what_is_no_record_is_counted(tmp_path, line):
    log = CaptionLog(tmp_path)
    log.append([Typed("first", "1")])
    with open(log.files()[0], "ab") as file:
        file.write(line + b"\n")
    assert len(log.read()) == 1 and log.torn == 1


def test_what_was_written_survives_a_kill(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from vislm_tutorial.serving.collect import CaptionLog, Typed\n"
        "log = CaptionLog(sys.argv[1])\n"
        "for i in range(20): log.append([Typed(f'caption {i}', str(i))])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)])
    assert done.returncode == -9
    assert len(CaptionLog(tmp_path).read()) == 20
