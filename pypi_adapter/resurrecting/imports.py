"""What the modules of a checkout import, for one that says nowhere what it needs."""

from __future__ import annotations

import ast
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from httpcache.errors import MirrorError

from .asked import Wanted
from .requirement_files import read_text

FILES = 2000  # that are looked at
PROJECTS = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "discord": "discord.py",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "GitPython",
    "github": "PyGithub",
    "google": "protobuf",
    "igraph": "python-igraph",
    "jose": "python-jose",
    "jwt": "PyJWT",
    "ldap": "python-ldap",
    "magic": "python-magic",
    "MySQLdb": "mysqlclient",
    "nacl": "PyNaCl",
    "OpenGL": "PyOpenGL",
    "OpenSSL": "pyOpenSSL",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "pywt": "PyWavelets",
    "rest_framework": "djangorestframework",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "socks": "PySocks",
    "telegram": "python-telegram-bot",
    "usb": "pyusb",
    "websocket": "websocket-client",
    "wx": "wxPython",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
"""Modules that are not called as their project is."""

_WERE = {"asynchat", "asyncore", "binhex", "cgi", "cgitb", "crypt", "distutils", "imghdr", "imp", "lib2to3", "msilib"}
_WERE |= {"nntplib", "parser", "pipes", "smtpd", "sndhdr", "spwd", "sunau", "symbol", "telnetlib", "uu", "xdrlib"}
_WERE |= {"aifc", "audioop", "chunk", "formatter", "macpath", "mailcap", "nis", "ossaudiodev", "dummy_threading"}
"""Modules that left the standard library."""
_NOT_OURS = {"node_modules", "site-packages", "venv", "env", "build", "dist"}


def read_imports(base: Path, wanted: Wanted) -> None:
    """Add what the modules below a folder import, without the standard library and each other."""
    files = sorted(_modules(base))
    if len(files) > FILES:
        wanted.leave(str(base), "imports", f"only the first {FILES} modules are read")
    own = {part for file in files for part in (*file.relative_to(base).parts[:-1], file.stem)}
    where: dict[str, str] = {}
    for file in files[:FILES]:
        name = file.relative_to(base).as_posix()
        for module in _imported(file, name, wanted):
            where.setdefault(module, name)
    for module in sorted(where.keys() - own - set(sys.stdlib_module_names) - _WERE):
        wanted.ask(PROJECTS.get(module, module.replace("_", "-")), f"import in {where[module]}", guessed=True)
    if files:
        wanted.files.append("imports")


def _modules(base: Path) -> Iterator[Path]:
    """Yield the modules, without those of environments and hidden folders."""
    for folder, folders, files in os.walk(base):
        folders[:] = [
            each
            for each in folders
            if not each.startswith(".") and each not in _NOT_OURS and not Path(folder, each, "pyvenv.cfg").exists()
        ]
        yield from (Path(folder, each) for each in files if each.endswith(".py") and each != "setup.py")


def _imported(file: Path, name: str, wanted: Wanted) -> Iterator[str]:
    """Yield the first parts of what a module imports."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(read_text(file))
    except (MirrorError, SyntaxError, ValueError, RecursionError, MemoryError):
        wanted.leave(name, name, "it is no module of Python 3")
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
