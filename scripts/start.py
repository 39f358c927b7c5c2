"""Make the environment `.venv` beside this folder, install sparse-actors in it, and run it.

    python3 scripts/start.py                     runs `sparse-actors run config.toml`
    python3 scripts/start.py --set run.seed=2    the same, with options
    python3 scripts/start.py check config.toml   any other command

Standard library only. The syntax is that of Python 3.6, so that an older Python reads as far as
the message that says which one is needed.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = (3, 11)


class SetupError(Exception):
    """The environment cannot be made; says in plain words why and what to do."""


def require_python(version, executable):
    """Raise SetupError where this Python is too old."""
    if tuple(version[:2]) < NEEDED:
        newer = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
        hint = (
            f"This machine has {newer[0]}: use that"
            if newer
            else "Install one from your system or python.org"
        )
        raise SetupError(
            "sparse-actors needs Python {}.{} or newer, and {} is {}.{}. {}.".format(
                *NEEDED, executable, version[0], version[1], hint
            )
        )


def require_venv_module(version, has_module=importlib.util.find_spec):
    """Raise SetupError where the system's Python came without the means to make environments."""
    if not (has_module("venv") and has_module("ensurepip")):
        raise SetupError(
            "This Python cannot make virtual environments: venv or ensurepip is missing.\n"
            "On Debian and Ubuntu: sudo apt install python{}.{}-venv".format(*version[:2])
        )


def venv_python(venv):
    """Return the interpreter inside an environment, on any system."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def is_sound(venv):
    """Whether an environment works: half-made ones, and those whose Python was removed, do not."""
    probe = "import pip, sys; print(sys.prefix); print(*sys.version_info[:2])"
    try:
        answer = subprocess.run(
            [str(venv_python(venv)), "-I", "-c", probe],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        ).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return False
    prefix, version = [*answer.splitlines(), "", ""][:2]
    is_ours = bool(prefix) and Path(prefix).resolve() == venv.resolve()
    return is_ours and tuple(int(part) for part in version.split()) >= NEEDED


def wanted_stamp(venv, root=ROOT):
    """Return what an installation depends on; when it changes, a new one is due."""
    pyproject = hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
    # An editable installation points to the checkout: one that was moved needs it anew.
    interpreter = (venv / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    return {"pyproject": pyproject, "checkout": str(root), "interpreter": interpreter}


def is_installed(venv, extras, root=ROOT):
    """Whether what is wanted was installed before, with these extras or more."""
    try:
        stamp = json.loads((venv / "installed.json").read_text(encoding="utf-8"))
        had = set(stamp.pop("extras"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return stamp == wanted_stamp(venv, root) and set(extras) <= had


def environment(base=None):
    """Return the variables for pip and the program: UTF-8, and nothing from outside the environment."""
    variables = dict(os.environ if base is None else base)
    for name in ("PYTHONHOME", "PYTHONPATH", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "__PYVENV_LAUNCHER__"):
        variables.pop(name, None)
    variables["PYTHONUTF8"] = "1"
    return variables


def explain_pip(output):
    """Say in plain words what pip could not do."""
    network = ("name resolution", "getaddrinfo", "NewConnectionError", "Max retries", "Timeout", "ProxyError")
    reasons = {
        network: "The package index cannot be reached. Connect to the network, or set HTTPS_PROXY.",
        ("No space left", "Errno 28"): "The disk is full.",
        ("Permission denied", "Errno 13", "WinError 5"): "The folder .venv cannot be written.",
        ("CERTIFICATE_VERIFY_FAILED",): "The certificate of the package index is not trusted: set PIP_CERT.",
        ("No matching distribution",): (
            "A package has no ready-made wheel for this Python or system. Python 3.11 to 3.13 on a 64-bit "
            "system has all of them."
        ),
    }
    for signs, reason in reasons.items():
        if any(sign in output for sign in signs):
            return reason
    return "See the output above."


def make_venv(venv):
    """Make the environment, or make it anew."""
    print(f"Making the environment {venv}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment())
    if result.returncode or not is_sound(venv):
        raise SetupError(
            f"{result.stdout.decode(errors='replace')}\nThe environment {venv} could not be made."
        )


def install(venv, extras, root=ROOT):
    """Install the checkout, editable, with its dependencies as wheels only."""
    print("Installing; the first time this takes a minute or two", file=sys.stderr, flush=True)
    target = ".[{}]".format(",".join(extras)) if extras else "."
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--only-binary", ":all:"]
    command = [str(venv_python(venv)), "-m", "pip", "install", *options, "-e", target]
    with tempfile.TemporaryFile() as log:
        code = subprocess.call(command, cwd=str(root), stdout=log, stderr=log, env=environment())
        log.seek(0)
        output = log.read().decode(errors="replace")
    if code:
        raise SetupError(f"{output[-3000:]}\nThe installation failed. {explain_pip(output)}")
    stamp = dict(wanted_stamp(venv, root), extras=sorted(extras))
    (venv / "installed.json").write_text(json.dumps(stamp), encoding="utf-8")


def ready(extras=(), root=ROOT):
    """Return the interpreter of an environment with everything installed."""
    require_python(sys.version_info, sys.executable)
    venv = root / ".venv"
    if not is_sound(venv):
        require_venv_module(sys.version_info)
        make_venv(venv)
    if not is_installed(venv, extras, root):
        install(venv, extras, root)
    return venv_python(venv)


def hand_over(command, cwd=None):
    """Become the command: its exit code and its Ctrl-C are ours. Returns only on Windows."""
    if cwd is not None:
        os.chdir(str(cwd))
    variables = environment()
    if "PYTHONPATH" in os.environ:
        variables["PYTHONPATH"] = os.environ["PYTHONPATH"]  # where drivers and detectors of one's own may be
    if os.name == "posix":
        os.execve(command[0], command, variables)
    # Windows has no exec that the shell waits for. Ctrl-C reaches the child by itself; this
    # process must outlive it to pass the exit code on.
    signal.signal(signal.SIGINT, lambda *_: None)
    return subprocess.call(command, env=variables)


def command_line(arguments, root=ROOT):
    """Return the arguments of sparse-actors: options alone belong to the default run."""
    if arguments and (not arguments[0].startswith("-") or arguments[0] in ("--help", "--version")):
        return list(arguments)
    return ["run", str(root / "config.toml"), *arguments]


def main(make_command):
    """Run what `make_command` makes of the interpreter; ends the process."""
    try:
        command, cwd = make_command()
        sys.exit(hand_over(command, cwd))
    except SetupError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"{error}. Is the folder of the checkout writable?", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _sparse_actors():
    # -P: a file named like a module in the current folder is not taken for it.
    return [str(ready()), "-P", "-m", "sparse_actors", *command_line(sys.argv[1:])], None


if __name__ == "__main__":
    main(_sparse_actors)
