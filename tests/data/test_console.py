from __future__ import annotations

import io
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from teramind_data import console, errors
from teramind_data.console import counted, progress, run_cli
from teramind_data.errors import InputError, MissingInputError, OutputExistsError, TeramindError
from tests.signals import heed_interrupts


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer(add_completion=False)

    @made.command()
    def bad() -> None:
        raise InputError(
            "file is\nbroken", where="a.csv", expected="3 columns", found=2, remedy="Write it again"
        )

    @made.command()
    def stop() -> None:
        raise KeyboardInterrupt

    @made.command()
    def leave() -> None:
        raise typer.Exit(3)

    @made.command()
    def say_130() -> None:
        raise typer.Exit(130)

    @made.command()
    def fine() -> None:
        print("done")

    return made


def run(app: typer.Typer, *arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        run_cli(app, arguments)
    return caught.value.code


def test_an_input_error_is_one_line_and_code_2(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "bad") == 2
    captured = capsys.readouterr()
    assert captured.err == "error: file is broken: a.csv (expected 3 columns, found 2). Write it again\n"
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [("--debug", "bad"), ("bad", "--debug")])
def test_debug_adds_the_traceback(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert run(app, *arguments) == 2
    assert "Traceback" in capsys.readouterr().err


def test_debug_by_environment(
    app: typer.Typer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERAMIND_DEBUG", "1")
    assert run(app, "bad") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "code"), [("stop", 130), ("leave", 3), ("fine", 0), ("nonsense", 2)])
def test_other_ends_keep_their_codes(app: typer.Typer, command: str, code: int) -> None:
    assert run(app, command) == code


def test_ctrl_c_is_one_line(app: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, "stop") == 130
    assert capsys.readouterr().err == "error: interrupted\n"
    assert run(app, "stop", "--debug") == 130
    assert "Traceback" in capsys.readouterr().err
    assert run(app, "say-130") == 130, "a command's own exit code"
    assert capsys.readouterr().err == ""


def test_ctrl_c_of_a_process_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(
        "import time, typer\n"
        "from teramind_data.console import run_cli\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "run_cli(app)\n"
    )
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "error: interrupted\n")


def test_progress_off_a_terminal_is_few_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    out = io.StringIO()
    with progress(12, "Reading", "tiles", stream=out) as advance:
        for _ in range(12):
            advance()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("Reading: 5/12 tiles, ")
    assert lines[0].endswith(" left")
    assert lines[-1].startswith("Reading: 12/12 tiles, ")


def test_progress_without_a_total_and_on_a_terminal() -> None:
    out = io.StringIO()
    with progress(None, "Reading", stream=out) as advance:
        advance(7)
    assert out.getvalue().startswith("Reading: 7 items, ")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    with progress(2, "Reading", "tiles", stream=screen) as advance:
        advance(2)
    assert "tiles/s" in screen.getvalue()


def test_an_error_is_not_followed_by_a_progress_line() -> None:
    out = io.StringIO()
    with pytest.raises(InputError), progress(2, "Reading", stream=out):
        raise InputError("bad")
    assert out.getvalue() == ""


def test_every_error_is_ours_and_a_builtin_and_survives_pickling() -> None:
    builtins = (ValueError, FileNotFoundError, FileExistsError, RuntimeError, ConnectionError)
    for name in errors.__all__:
        kind = getattr(errors, name)
        error = kind("what", where="w", expected=1, found=2, remedy="Do it")
        assert isinstance(error, TeramindError)
        assert kind is TeramindError or isinstance(error, builtins)
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind
        assert str(copy) == str(error) == "what: w (expected 1, found 2). Do it"


def test_errors_leave_out_what_was_not_given() -> None:
    assert str(MissingInputError("no file", where="a")) == "no file: a"
    assert str(OutputExistsError("it exists", remedy="Move it")) == "it exists. Move it"
    assert str(InputError("odd", found=0)) == "odd (found 0)"


def test_the_file_systems_word_is_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    made = typer.Typer(add_completion=False)

    @made.command()
    def below_a_file() -> None:
        (tmp_path / "file" / "out").mkdir()

    assert run(made) == 2
    err = capsys.readouterr().err
    assert err == f"error: Not a directory: {tmp_path}/file/out. Check the path, its rights and the disk\n"


def test_one_is_singular() -> None:
    assert [counted(n, "step") for n in (0, 1, 2000)] == ["0 steps", "1 step", "2,000 steps"]
    assert [counted(n, "patch", "patches") for n in (1, 2)] == ["1 patch", "2 patches"]
