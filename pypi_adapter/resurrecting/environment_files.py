"""Reads what environment files of conda ask for, as far as an index of Python packages may have it."""

from __future__ import annotations

import re
from pathlib import Path

from httpcache.errors import MirrorError

from .asked import Wanted
from .requirement_files import read_line, read_text
from .specifiers import conda

PROJECTS = {
    "dask-core": "dask",
    "faiss-cpu": "faiss-cpu",
    "keras-gpu": "keras",
    "lightning": "pytorch-lightning",
    "matplotlib-base": "matplotlib",
    "msgpack-python": "msgpack",
    "opencv": "opencv-python",
    "py-opencv": "opencv-python",
    "py-xgboost": "xgboost",
    "pytables": "tables",
    "python-graphviz": "graphviz",
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "seaborn-base": "seaborn",
    "tensorflow-base": "tensorflow",
    "tensorflow-mkl": "tensorflow",
}
"""Packages of conda, and the projects that have the same."""

_NO_PROJECT = re.compile(
    r"_.*|r|r-.*|lib(?!archive|cst|rosa|sass|tmux).+|cuda.*|cudnn|nccl|mkl|mkl-service|intel-openmp|blas|openblas|cpuonly"
    r"|pytorch-mutex|gcc.*|gxx.*|make|cmake|ninja|git|git-lfs|curl|wget|conda.*|nodejs|jdk|openjdk|openssl|ca-certificates"
    r"|zlib|xz|zstd|bzip2|lz4-c|ncurses|readline|sqlite|tk|ffmpeg|x264|openh264|gnutls|nettle|lame|freetype|jpeg|graphviz"
    r"|hdf5|vc|vs20\d\d_runtime"
)
"""Packages of conda that are no Python: a project of the same name is something else."""

_DEPENDENCY = re.compile(r"(?:[^\s:]+::)?([A-Za-z0-9_][\w.-]*)\s*(.*)")


def read_environment(file: Path, base: Path, wanted: Wanted) -> None:
    """Add what an environment file asks for: of its section `pip`, and of its packages that are no system libraries."""
    try:
        from yaml import YAMLError, safe_load
    except ImportError:
        wanted.leave(file.name, file.name, "reading it needs PyYAML: pip install 'freezing-mirror[conda]'")
        return
    try:
        document = safe_load(read_text(file))
    except (MirrorError, YAMLError, ValueError, RecursionError) as error:
        wanted.leave(file.name, file.name, f"it cannot be read: {error}")
        return
    dependencies = document.get("dependencies") if isinstance(document, dict) else None
    if not isinstance(dependencies, list):
        wanted.leave(file.name, file.name, "it has no list of dependencies")
        return
    wanted.files.append(file.name)
    for each in dependencies:
        if isinstance(each, dict) and isinstance(each.get("pip"), list):
            for line in each["pip"]:
                read_line(str(line).strip(), file.name, file.parent, base, wanted)
        elif isinstance(each, str):
            _package(each.strip(), file.name, wanted)


def _package(text: str, where: str, wanted: Wanted) -> None:
    found = _DEPENDENCY.fullmatch(text)
    name = found[1].lower() if found else ""
    if found is None or _NO_PROJECT.fullmatch(name):
        wanted.leave(text, where, "it comes from conda only")
        return
    try:
        specifier = conda(found[2])
    except ValueError as error:
        wanted.leave(text, where, str(error))
        return
    if name == "python":
        wanted.python(_minor(specifier), where)
    else:
        wanted.ask(f"{PROJECTS.get(name, name)}{specifier}", where, guessed=True)


def _minor(specifier: str) -> str:
    """Return the Python that is wanted without its last number: uv has the newest of each."""
    return re.sub(r"==(\d+\.\d+)\.\d+(?:\.\*)?", r"==\1.*", specifier)
