"""What the jobs log, and how."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bae import logs
from bae.errors import RunError, UseError
from jobs import command

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, bae = logging.getLogger(), logging.getLogger("bae")
    kept = root.handlers[:], root.level, bae.level, signal.getsignal(signal.SIGTERM)
    yield
    root.handlers[:], root.level, bae.level = kept[0], kept[1], kept[2]
    signal.signal(signal.SIGTERM, kept[3])
    logs.bind(job=None, run_id=None)


def _end(error: Exception | None) -> int:
    def job(options: object) -> None:
        logs.bind(run_id="20261124T000000Z-0")
        command.say("half way")
        logging.getLogger("bae.s3").warning("slow", extra={"pause_s": 0.5})
        if error is not None:
            raise error

    parser = command.Parser("predict", "", "")
    return command.run(parser, job, [])


def test_json_lines_carry_job_run_and_extra_fields(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every line of a run that succeeds is JSON; nothing is plain text."""
    monkeypatch.setenv("BAE_LOG", "json")
    assert _end(None) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == ["begins", "half way", "slow", "done"]
    assert {line["job"] for line in lines} == {"predict"}
    assert [line.get("run_id") for line in lines] == [None, *["20261124T000000Z-0"] * 3]
    assert lines[2]["pause_s"] == 0.5
    assert lines[2]["level"] == "WARNING"
    assert {"time", "logger"} <= lines[0].keys()


@pytest.mark.parametrize("kind", ["json", "text"])
@pytest.mark.parametrize(
    ("error", "code"), [(RunError("no room"), 1), (UseError("no such place"), 2)]
)
def test_the_reason_is_the_last_line(
    kind: str,
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A scheduler that shows one line shows the reason, whatever the log's form."""
    monkeypatch.setenv("BAE_LOG", kind)
    assert _end(error) == code
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {error}"


def test_text_for_people_json_on_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is asked for, the cluster's address decides."""
    monkeypatch.delenv("BAE_LOG", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not logs.as_json()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert logs.as_json()
    monkeypatch.setenv("BAE_LOG", "text")
    assert not logs.as_json()


def test_an_unknown_log_format_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, exit code 2."""
    monkeypatch.setenv("BAE_LOG", "xml")
    assert _end(None) == 2
    assert capsys.readouterr().err == "error: BAE_LOG is 'xml'; expected json or text\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_a_job_alike(number: signal.Signals) -> None:
    """Ctrl-C, ``ray job stop`` and a container's end: clean-up runs, exit code 130."""
    code = """
import contextlib, signal, time
from jobs import command
# a shell's background processes ignore Ctrl-C, and what they start inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)
@contextlib.contextmanager
def held():
    try: yield
    finally: print("released", flush=True)
def job(options):
    with held():
        print("works", flush=True)
        time.sleep(60)
raise SystemExit(command.run(command.Parser("predict", "", ""), job, []))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == "works\n"
    os.kill(process.pid, number)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "released\n"
    assert errors.splitlines()[-1].startswith("interrupted: the same command goes on")
