"""Small real wheels and sdists: valid metadata, an importable module, the same bytes every time."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message

from packaging.utils import canonicalize_name


@dataclass(frozen=True)
class Dist:
    """A distribution file; `metadata` is its METADATA or PKG-INFO."""

    project: str
    version: str
    filename: str
    data: bytes
    metadata: bytes
    requires_python: str | None = None

    @property
    def name(self) -> str:
        """The normalised project name."""
        return canonicalize_name(self.project)

    @property
    def sha256(self) -> str:
        """The digest of the file, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def metadata_sha256(self) -> str:
        """The digest of its metadata, in hex."""
        return hashlib.sha256(self.metadata).hexdigest()

    @property
    def is_wheel(self) -> bool:
        """Whether it is a wheel."""
        return self.filename.endswith(".whl")


def _metadata(
    project: str, version: str, requires: Iterable[str], requires_python: str | None, licence: str = ""
) -> bytes:
    message = Message()
    message["Metadata-Version"] = "2.2"  # of an sdist too: static, so nobody has to build it
    message["Name"] = project
    message["Version"] = version
    if requires_python is not None:
        message["Requires-Python"] = requires_python
    if licence:
        message["License-Expression"] = licence
    for requirement in requires:
        message["Requires-Dist"] = requirement
    return message.as_bytes()


def wheel(
    project: str,
    version: str,
    requires: Iterable[str] = (),
    *,
    requires_python: str | None = None,
    tag: str = "py3-none-any",
    salt: str = "",
    padding: int = 0,
    members: int = 0,
    metadata_first: bool = False,
    licence: str = "",
) -> Dist:
    """A wheel with one module; `salt` makes other bytes of the same name, `padding` makes it larger.

    `members` is a number of small files that it has besides, `metadata_first` puts METADATA in front of all others.
    """
    module = canonicalize_name(project).replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = _metadata(project, version, requires, requires_python, licence)
    files = {f"{info}/METADATA": metadata} if metadata_first else {}
    files[f"{module}.py"] = f'version = "{version}"\nsalt = "{salt}"\n'.encode()
    if padding:
        files[f"{module}.bin"] = random.Random(f"{project} {version} {salt}").randbytes(padding)
    files |= {f"{module}_data/{number // 100:03}/member_{number:06}.txt": b"" for number in range(members)}
    files[f"{info}/METADATA"] = metadata
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    record = "".join(f"{path},sha256={_record_hash(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data)  # dated 1980, stored: the same bytes everywhere
    return Dist(project, version, f"{module}-{version}-{tag}.whl", buffer.getvalue(), metadata, requires_python)


def sdist(project: str, version: str, requires: Iterable[str] = (), *, requires_python: str | None = None) -> Dist:
    """An sdist: its metadata can be read as it is, installing it needs setuptools."""
    module = canonicalize_name(project).replace("-", "_")
    requires = list(requires)
    metadata = _metadata(project, version, requires, requires_python)
    project_table = f'[project]\nname = "{project}"\nversion = "{version}"\ndependencies = {json.dumps(requires)}\n'
    if requires_python is not None:
        project_table += f'requires-python = "{requires_python}"\n'
    pyproject = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    files = {
        "PKG-INFO": metadata,
        "pyproject.toml": (pyproject + project_table).encode(),
        f"{module}.py": f'version = "{version}"\n'.encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(f"{module}-{version}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    data = gzip.compress(buffer.getvalue(), mtime=0)
    return Dist(project, version, f"{module}-{version}.tar.gz", data, metadata, requires_python)


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
