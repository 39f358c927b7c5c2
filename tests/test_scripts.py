"""The start scripts: what they decide, without network."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def start(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location("start_under_test", SCRIPTS / "start.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    """A checkout in a path with spaces, with an environment that looks finished."""
    root = tmp_path / "my microscope"
    (root / ".venv").mkdir(parents=True)
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (root / ".venv" / "pyvenv.cfg").write_text("version = 3.11.7\n")
    return root


def install(start, root, extras=()):
    stamp = dict(start.wanted_stamp(root / ".venv", root), extras=sorted(extras))
    (root / ".venv" / "installed.json").write_text(json.dumps(stamp))


def test_an_old_python_is_told_plainly(start, monkeypatch):
    monkeypatch.setattr(start.shutil, "which", lambda name: "/usr/bin/x" if name == "python3.12" else None)
    with pytest.raises(
        start.SetupError, match=r"needs Python 3\.11 or newer, and python3 is 3\.9\..*has python3.12"
    ):
        start.require_python((3, 9, 2), "python3")
    start.require_python((3, 11, 0), "python3")
    start.require_python((3, 14, 0), "python3")


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_environments_names_the_package(start, missing):
    with pytest.raises(start.SetupError, match=r"sudo apt install python3\.12-venv"):
        start.require_venv_module((3, 12, 1), lambda name: None if name == missing else object())
    start.require_venv_module((3, 12, 1), lambda name: object())


def test_nothing_is_installed_again_unless_something_changed(start, checkout):
    venv = checkout / ".venv"
    assert not start.is_installed(venv, (), checkout)
    install(start, checkout)
    assert start.is_installed(venv, (), checkout)
    assert not start.is_installed(venv, ("test",), checkout)
    install(start, checkout, ("test",))
    assert start.is_installed(venv, ("test",), checkout)
    assert start.is_installed(venv, (), checkout)


@pytest.mark.parametrize("changed", ["pyproject.toml", ".venv/pyvenv.cfg"])
def test_a_change_of_what_is_wanted_installs_again(start, checkout, changed):
    install(start, checkout)
    path = checkout / changed
    path.write_text(path.read_text() + "# changed\n")
    assert not start.is_installed(checkout / ".venv", (), checkout)


def test_a_checkout_that_was_moved_is_installed_again(start, checkout):
    install(start, checkout)
    moved = checkout.rename(checkout.parent / "elsewhere")
    assert not start.is_installed(moved / ".venv", (), moved)


@pytest.mark.parametrize("stamp", ["", "{", "[]", "{}", '{"extras": 3}', '{"extras": []}'])
def test_a_damaged_stamp_is_no_installation(start, checkout, stamp):
    (checkout / ".venv" / "installed.json").write_text(stamp)
    assert not start.is_installed(checkout / ".venv", (), checkout)


def test_a_half_made_environment_is_not_sound(start, checkout):
    venv = checkout / ".venv"
    assert not start.is_sound(venv)
    python = start.venv_python(venv)
    python.parent.mkdir()
    if os.name == "posix":
        python.symlink_to(checkout / "removed" / "python3")  # its Python was uninstalled
        assert not start.is_sound(venv)
        python.unlink()
        python.symlink_to(sys.executable)  # runs, but is no environment of its own: no pip, or another's
        python.parent.parent.joinpath("pyvenv.cfg").unlink()
        assert not start.is_sound(venv)
    else:
        python.write_bytes(b"")
        assert not start.is_sound(venv)


def test_the_program_sees_utf8_and_nothing_from_outside(start):
    given = {"PYTHONHOME": "/x", "PYTHONPATH": "/y", "PIP_USER": "1", "HOME": "/h", "LC_ALL": "C"}
    assert start.environment(given) == {"HOME": "/h", "LC_ALL": "C", "PYTHONUTF8": "1"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["run", "ROOT/config.toml"]),
        (["--set", "run.seed=2"], ["run", "ROOT/config.toml", "--set", "run.seed=2"]),
        (["check", "config.toml"], ["check", "config.toml"]),
        (["--version"], ["--version"]),
        (["--help"], ["--help"]),
    ],
)
def test_options_belong_to_the_default_run(start, tmp_path, arguments, expected):
    expected = [e.replace("ROOT/config.toml", str(tmp_path / "config.toml")) for e in expected]
    assert start.command_line(arguments, tmp_path) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "network"),
        ("NewConnectionError ... ERROR: No matching distribution found for setuptools", "network"),
        ("ERROR: No matching distribution found for numba>=0.63", "wheel"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("something else", "output above"),
    ],
)
def test_what_pip_could_not_do_is_said_plainly(start, output, expected):
    assert expected in start.explain_pip(output)


def test_a_failed_installation_leaves_no_stamp(start, checkout, monkeypatch):
    failing = [sys.executable, "-c", "print('NewConnectionError'); raise SystemExit(1)"]
    call = subprocess.call
    monkeypatch.setattr(start.subprocess, "call", lambda _, **options: call(failing, **options))
    with pytest.raises(start.SetupError, match=r"NewConnectionError\s+The installation failed. .*network"):
        start.install(checkout / ".venv", (), checkout)
    assert not start.is_installed(checkout / ".venv", (), checkout)


def test_ready_makes_and_installs_only_what_is_missing(start, checkout, monkeypatch):
    done = []
    sound = []
    monkeypatch.setattr(start, "is_sound", lambda venv: bool(sound))
    monkeypatch.setattr(start, "make_venv", lambda venv: (done.append("make"), sound.append(1)))

    def fake_install(venv, extras, root):
        done.append(("install", tuple(extras)))
        install(start, root, extras)

    monkeypatch.setattr(start, "install", fake_install)
    assert start.ready((), checkout) == start.venv_python(checkout / ".venv")
    start.ready((), checkout)
    start.ready(("test",), checkout)
    start.ready((), checkout)
    assert done == ["make", ("install", ()), ("install", ("test",))]


def in_a_process(code, tmp_path):
    (tmp_path / "run.py").write_text(
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import start\n{code}"
    )
    return subprocess.run(
        [sys.executable, str(tmp_path / "run.py")], capture_output=True, text=True, timeout=60
    )


def test_the_exit_code_and_the_output_are_those_of_the_program(tmp_path):
    child = [sys.executable, "-c", "import sys; print(sys.flags.utf8_mode); sys.exit(75)"]
    result = in_a_process(f"start.main(lambda: ({child!r}, {str(tmp_path)!r}))", tmp_path)
    assert (result.returncode, result.stdout.strip()) == (75, "1")


def test_what_cannot_be_set_up_is_one_message_and_no_traceback(tmp_path):
    code = "def fail(): raise start.SetupError('no ensurepip')\nstart.main(fail)"
    result = in_a_process(code, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "no ensurepip\n")


def test_both_scripts_have_a_syntax_that_an_old_python_reads():
    import ast

    for script in ("start.py", "test.py"):
        ast.parse((SCRIPTS / script).read_text(encoding="utf-8"), feature_version=(3, 6))
