"""Writes a bill of materials as SPDX 2.3 (ISO/IEC 5962) in JSON, by the library of its authors."""

from __future__ import annotations

from io import StringIO

from license_expression import ExpressionError, get_spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.validation.uri_validators import validate_download_location
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from httpcache import __version__

from .components import Component, Materials
from .text import ADVISORY, about_build, facts, identity, location, moment, purl

DOCUMENT, BUILD = "SPDXRef-DOCUMENT", "SPDXRef-build"


def to_spdx(materials: Materials, mirror: str) -> str:
    """Return the bill of materials of a build: the same text for the same files.

    `mirror` is the mirror's address for the addresses in it, "" for none.
    """
    build = materials.build
    comment = "\n".join(f"{name}={value}" for name, value in about_build(materials))
    creation = CreationInfo(
        "SPDX-2.3", DOCUMENT, build.label, f"urn:uuid:{identity(materials)}",
        [Actor(ActorType.TOOL, f"httpcache-{__version__}")], moment(build.last), document_comment=comment,
    )  # fmt: skip
    texts = _Texts()
    nothing = SpdxNoAssertion()
    root = Package(
        BUILD, build.label, nothing, files_analyzed=False, license_concluded=nothing, license_declared=nothing,
        copyright_text=nothing, primary_package_purpose=PackagePurpose.APPLICATION,
    )  # fmt: skip
    packages = [_package(f"SPDXRef-{number}", each, mirror, texts) for number, each in enumerate(materials.components)]
    related = [Relationship(DOCUMENT, RelationshipType.DESCRIBES, BUILD)]
    related += [Relationship(BUILD, RelationshipType.DEPENDS_ON, package.spdx_id) for package in packages]
    document = Document(
        creation, packages=[root, *packages], relationships=related, extracted_licensing_info=texts.infos
    )
    written = StringIO()
    write_document_to_stream(document, written)
    return written.getvalue()


class _Texts:
    """Licences that are none of SPDX's: each gets an id of its own in the document."""

    def __init__(self) -> None:
        self._licensing = get_spdx_licensing()
        self._ids: dict[str, str] = {}

    @property
    def infos(self) -> list[ExtractedLicensingInfo]:
        """The licences with their ids."""
        return [ExtractedLicensingInfo(name, text, text) for text, name in self._ids.items()]

    def declared(self, licences: tuple[str, ...]) -> object:
        """Return what a package declares, as an expression of SPDX."""
        if not licences:
            return SpdxNoAssertion()
        return self._licensing.parse(" AND ".join(map(self._expression, licences)))

    def _expression(self, licence: str) -> str:
        try:
            parsed = self._licensing.parse(licence, validate=True, strict=True)
            return f"({parsed})" if parsed is not None else self._own(licence)
        except ExpressionError:
            return self._own(licence)

    def _own(self, licence: str) -> str:
        return self._ids.setdefault(licence, f"LicenseRef-{len(self._ids) + 1}")


def _package(name: str, component: Component, mirror: str, texts: _Texts) -> Package:
    known, url = component.described, location(component, mirror)
    package_url = purl(component)
    references = []
    if package_url:
        references.append(
            ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", package_url.to_string())
        )
    for advisory in known.advisories if known else ():
        where = ADVISORY + advisory.id
        references.append(ExternalPackageRef(ExternalPackageRefCategory.SECURITY, "advisory", where, advisory.summary))
    return Package(
        name,
        f"{known.namespace}/{component.name}" if known and known.namespace else component.name,
        SpdxNoAssertion() if validate_download_location(url) else url,  # it knows no addresses and no bare names
        component.version,
        component.filename,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, component.file.digest)],
        source_info="\n".join(f"{name}={value}" for name, value in facts(component)),
        license_concluded=SpdxNoAssertion(),
        license_declared=texts.declared(known.licences if known else ()),
        copyright_text=SpdxNoAssertion(),
        external_references=references,
        primary_package_purpose=PackagePurpose.LIBRARY if known else PackagePurpose.FILE,
    )
