"""A Containerfile, read and carried out without a container engine, in copies of a bare Debian (`make debian`).

What an engine does is done with unshare, mount and chroot, as root: namespaces for processes and mounts, a root that is
mounted read-only, and a user without any capability. The network is the machine's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DEBIAN: Final = ROOT / ".tools/debian/root"
"""What stands for the base image."""
BASE_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
LISTED: Final = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
PASSED_ON: Final = ("PIP_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_DEFAULT_TIMEOUT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""Variables that tell pip how this machine reaches the package index."""
BUILD: Final = """
for shared in /etc/resolv.conf /etc/ssl/certs; do mount --bind "$shared" "$1$shared"; done
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$@"
"""
"""Runs a command in a root that can be written to, with the names and the authorities that this machine trusts."""
SERVE: Final = """
data=$2; mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 1
mount -t tmpfs tmpfs "$1/tmp" && mount --bind "$data" "$1/data" || exit 1
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 1
root=$1; shift 2; exec chroot "$root" "$@"
"""
"""Runs a command in a root that is read-only but for /tmp and the volume."""


@dataclass(frozen=True)
class Step:
    """One instruction: its name, and its text in one line."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The arguments: those of the JSON list, if it is one."""
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


@dataclass
class Stage:
    """What a stage has come to: its folder, and the settings of the image."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    folder: str = "/"
    user: str = "0:0"
    volume: str = ""
    health: Sequence[str] = ()
    entry: Sequence[str] = ()
    arguments: Sequence[str] = ()

    def command(self, command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The command line, inside the root, that runs a command as the image says: its user, folder and variables."""
        variables = [f"{name}={value}" for name, value in (self.environment | dict(environment)).items()]
        user, group = self.user.split(":")
        bare = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"] if user != "0" else []
        drop = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", *bare]
        return ["env", "-i", f"--chdir={self.folder}", *variables, *drop, *command]


def steps(text: str) -> list[Step]:
    """The instructions of a Containerfile, without comments."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [Step(*(part.strip() for part in line.split(None, 1))) for line in lines.splitlines() if line.strip()]


def build(text: str, folder: Path) -> Stage:
    """Carry out the instructions, each stage in a copy of the bare Debian; return the last one.

    Raises CalledProcessError with what a command said, and ValueError for an instruction that is not known here.
    """
    stages: dict[str, Stage] = {}
    stage = Stage(folder)
    for step in steps(text):
        if step.name == "FROM":
            name = step.text.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(folder / name)
            subprocess.run(["cp", "-a", DEBIAN, stage.root], check=True)
        elif step.name == "COPY":
            _copy(step.words, stage, stages)
        elif step.name == "RUN":
            _run(step.text, stage)
        else:
            _set(step, stage)
    return stage


def serve(stage: Stage, data: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Run the image's command as process 1 of a read-only container, with a folder as its volume."""
    inside = stage.command([*stage.entry, *stage.arguments], environment)
    line = [*NAMESPACES, "sh", "-c", SERVE, "sh", str(stage.root), str(data), *inside]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def enter(process: subprocess.Popen[str], stage: Stage, command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command in a running container, as `docker exec` does; return what it says, and raise if it fails."""
    first = str(first_process(process))
    line = ["nsenter", "--target", first, "--mount", "--pid", "--root", *stage.command(command, environment)]
    return _checked(line)


def first_process(process: subprocess.Popen[str]) -> int:
    """The process 1 of a running container, as this machine numbers it."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def refused() -> str:
    """Why nothing of this can be done here; "" if it can."""
    if os.geteuid() or shutil.which("unshare") is None:
        return "namespaces and mounts of one's own need root and unshare"
    if not DEBIAN.with_name("ready").exists():
        return "there is no bare Debian: see `make debian`"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


def _copy(words: Sequence[str], stage: Stage, stages: Mapping[str, Stage]) -> None:
    """Copy what git knows of the sources, or what a stage has come to."""
    *sources, target = words
    path = stage.root / os.path.join(stage.folder, target).lstrip("/")
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).removeprefix("--from=")].root
        subprocess.run(["cp", "-a", *(origin / each.lstrip("/") for each in sources), path.parent], check=True)
        return
    for source in sources:
        listed = subprocess.run([*LISTED, source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in listed.splitlines():
            place = path / (os.path.relpath(name, source) if name != source else source if target == "./" else "")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place)


def _run(command: str, stage: Stage) -> None:
    inside = stage.command(["sh", "-c", command], {name: os.environ[name] for name in PASSED_ON if name in os.environ})
    _checked([*NAMESPACES, "sh", "-ec", BUILD, "sh", str(stage.root), *inside])


def _set(step: Step, stage: Stage) -> None:
    """Note what an instruction says of the image."""
    match step.name:
        case "ENV":
            pairs = (re.split("=", word, maxsplit=1) for word in step.words)
            stage.environment |= {name: Template(value).substitute(stage.environment) for name, value in pairs}
        case "WORKDIR":
            stage.folder = step.text
            (stage.root / step.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        case "USER":
            stage.user = step.text
        case "VOLUME":
            stage.volume = step.text
        case "HEALTHCHECK":
            stage.health = Step("CMD", step.text.partition(" CMD ")[2]).words
        case "ENTRYPOINT":
            stage.entry = step.words
        case "CMD":
            stage.arguments = step.words
        case "ARG" | "EXPOSE" | "STOPSIGNAL":
            pass
        case _:
            raise ValueError(f"an instruction that is not known here: {step.name}")


def _checked(line: Sequence[str]) -> str:
    ran = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    if ran.returncode:
        raise subprocess.CalledProcessError(ran.returncode, line[-1], ran.stdout)
    return ran.stdout
