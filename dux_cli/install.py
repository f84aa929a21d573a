"""`duxnet install --root DIR`: program, units, users and settings as they lie on a machine, below DIR.

    /usr/lib/duxnet/venv                 the program with its locked packages, for the machine's own Python
    /usr/bin/{duxnet,…}                  links to its commands
    /usr/lib/{systemd,sysusers.d,tmpfiles.d}, /etc/duxnet

Promises: writes below DIR alone; packages come from the lock file, by hash; nothing of this checkout's place remains in
what is laid down; a settings file that is there already is kept. Package, image and tests all use it. Starts nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from common.errors import CallerMistake
from dux_cli.command import DuxCommand, Session, pass_session

CHECKOUT = Path(__file__).resolve().parents[1]
VENV = Path("usr/lib/duxnet/venv")
COMMANDS = ("duxnet", "duxos-node-registry", "dux-keygen")
PLACES = {
    "systemd/system": "usr/lib/systemd/system",
    "systemd/sysusers.d": "usr/lib/sysusers.d",
    "systemd/tmpfiles.d": "usr/lib/tmpfiles.d",
}
SETTINGS = "etc/duxnet"
TARGET = Path("usr/lib/systemd/system/duxnet.target")
WANTED = Path("etc/systemd/system/multi-user.target.wants/duxnet.target")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "common", *sorted(path.name for path in CHECKOUT.glob("dux_*")))
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
WORDS_MAX = 600  # characters of a failed program's last words


class StepFailed(CallerMistake):
    """Not installed: `{command}` ended with {code}: {tail}."""

    code = 1151
    key = "install-step-failed"


class NoCheckout(CallerMistake):
    """This installs from a checkout of the project; run ./duxnet install there."""

    code = 1152
    key = "no-checkout"


class OtherPython(CallerMistake):
    """{python} is Python {theirs}; packages compiled for {ours}, under which this runs, would not fit: {advice}."""

    code = 1153
    key = "other-python"


@click.command(cls=DuxCommand)
@click.option("--root", required=True, type=click.Path(file_okay=False, path_type=Path), help="Below which folder.")
@click.option("--python", default="/usr/bin/python3", show_default=True, help="The Python of the machine it is for.")
@click.option("--units-only", is_flag=True, help="Leave the program out: units, users and settings only.")
@click.option("--enable", is_flag=True, help="Start the node whenever the machine boots.")
@pass_session
def install(session: Session, *, root: Path, python: str, units_only: bool, enable: bool) -> None:
    """Lay the program, its units and its settings below a folder: of a package, of an image, or `/` as root.

    \b
    ./duxnet install --root build/stage
    ./duxnet install --root / --enable     then: systemd-sysusers && systemd-tmpfiles --create
                                                 && systemctl daemon-reload && systemctl start duxnet.target
    """
    if not (CHECKOUT / "systemd/system").is_dir():
        raise NoCheckout
    top = root.absolute()
    lay_units(top, enable=enable)
    if not units_only:
        session.out.step("making the program's environment …")
        lay_program(top, python)
    session.out.record({"root": str(top)}, [("installed below", str(top))], name=str(top))


def lay_units(root: Path, *, enable: bool) -> None:
    """Units, users, run-time folders, settings; and the link by which the machine starts the node at boot."""
    for source, place in PLACES.items():
        shutil.copytree(CHECKOUT / source, root / place, dirs_exist_ok=True)
    for path in files_below(CHECKOUT / SETTINGS):
        target = root / SETTINGS / path.relative_to(CHECKOUT / SETTINGS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copyfile(path, target)
    if enable:
        (root / WANTED).parent.mkdir(parents=True, exist_ok=True)
        (root / WANTED).unlink(missing_ok=True)
        (root / WANTED).symlink_to(Path("/") / TARGET)


def lay_program(root: Path, python: str) -> None:
    """The environment, as if it had been made at its place below `/`.

    Raises:
        OtherPython: compiled packages fetched here would not fit there. StepFailed: with a program's last words.
    """
    check_python(python)
    venv = root / VENV
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(parents=True, exist_ok=True)
    run(python, "-m", "venv", "--without-pip", str(venv))
    with tempfile.TemporaryDirectory() as work:
        wheels, source = Path(work, "wheels"), copy_source(Path(work, "source"))
        build = (sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels))
        run(*build, "--require-hashes", "--requirement", str(CHECKOUT / "requirements.lock"))
        run(*build, str(source))
        words = ("--no-index", "--no-deps", "--no-compile", *map(str, sorted(wheels.glob("*.whl"))))
        run(sys.executable, *PIP, "--python", str(venv / "bin" / "python"), "install", *words)
    as_if_at_its_place(venv)
    run(str(venv / "bin" / "python"), "-m", "compileall", "-q", "-s", str(root), "-p", "/", str(venv / "lib"))
    for name in COMMANDS:
        link = root / "usr/bin" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(Path("..") / VENV.relative_to("usr") / "bin" / name)


def check_python(python: str) -> None:
    """The interpreter that packages are fetched with is of the version that will run them.

    Raises:
        OtherPython: it is not.
    """
    ours = ".".join(map(str, sys.version_info[:2]))
    theirs = run(python, "-c", "import sys; print('.'.join(map(str, sys.version_info[:2])))").strip()
    if ours != theirs:
        advice = f"put that one first on PATH and set another DUXNET_VENV, or name a Python {ours} by --python"
        raise OtherPython(python=python, theirs=theirs, ours=ours, advice=advice)


def copy_source(folder: Path) -> Path:
    """The packages alone, so that building leaves nothing in the checkout."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        path = CHECKOUT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, folder / name)
    return folder


def as_if_at_its_place(venv: Path) -> None:
    """Scripts and notes name the environment's final place, and none where it was built or from what."""
    final = str(Path("/") / VENV)
    for path in (*files_below(venv / "bin"), venv / "pyvenv.cfg"):
        if not path.is_symlink() and str(venv).encode() in (data := path.read_bytes()):
            path.write_bytes(data.replace(str(venv).encode(), final.encode()))
    for path in venv.rglob("direct_url.json"):
        path.unlink()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and below it."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def run(*command: str) -> str:
    """What a program printed.

    Raises:
        StepFailed: it failed.
    """
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        tail = (done.stderr or done.stdout).strip()[-WORDS_MAX:]
        raise StepFailed(command=" ".join(command)[:200], code=done.returncode, tail=tail)
    return done.stdout
