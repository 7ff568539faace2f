"""Writes a bill of materials as CycloneDX 1.6 (ECMA-424) in JSON, by the library of its authors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component as CycloneDx
from cyclonedx.model.component import ComponentType
from cyclonedx.model.license import DisjunctiveLicense, License, LicenseExpression
from cyclonedx.model.vulnerability import BomTarget, Vulnerability, VulnerabilitySource
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion

from httpcache import __version__
from httpcache.adapter import Advisory

from .components import Component, Materials
from .text import ADVISORY, about_build, facts, identity, location, moment, purl


def to_cyclonedx(materials: Materials, mirror: str) -> str:
    """Return the bill of materials of a build: the same text for the same files.

    `mirror` is the mirror's address for the addresses in it, "" to leave them path-absolute.
    """
    build = materials.build
    bom = Bom(serial_number=identity(materials))
    bom.metadata.timestamp = moment(build.last)
    bom.metadata.tools.components.add(
        CycloneDx(name="httpcache", version=__version__, type=ComponentType.APPLICATION, bom_ref="httpcache")
    )
    root = CycloneDx(name=build.label, type=ComponentType.APPLICATION, bom_ref=f"build:{build.label}")
    bom.metadata.component = root
    bom.metadata.properties.update(_properties(about_build(materials)))
    affected: defaultdict[Advisory, list[str]] = defaultdict(list)
    made = []
    for component in materials.components:
        reference = f"{component.address}#sha256={component.file.digest}"
        made.append(_component(component, reference, mirror))
        for advisory in component.described.advisories if component.described else ():
            affected[advisory].append(reference)
    bom.components.update(made)
    bom.register_dependency(root, made)
    for advisory, references in affected.items():
        bom.vulnerabilities.add(_vulnerability(advisory, references))
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


def _component(component: Component, reference: str, mirror: str) -> CycloneDx:
    known = component.described
    file = component.file
    digest = HashType(alg=HashAlgorithm.SHA_256, content=file.digest)
    return CycloneDx(
        bom_ref=reference,
        type=ComponentType.LIBRARY if known else ComponentType.FILE,
        group=known.namespace or None if known else None,
        name=component.name,
        version=component.version,
        purl=purl(component),
        hashes=[digest],
        licenses=list(_licences(known.licences)) if known else (),
        external_references=[
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION, url=XsUri(location(component, mirror)), hashes=[digest]
            )
        ],
        properties=_properties(facts(component)),
    )


def _licences(declared: tuple[str, ...]) -> Iterable[License]:
    """Yield licences: an expression stands alone, and what is none of SPDX is a name."""
    factory = LicenseFactory()
    found = [factory.make_from_string(each) for each in declared]
    if len(found) == 1:
        return found
    return [DisjunctiveLicense(name=each.value) if isinstance(each, LicenseExpression) else each for each in found]


def _properties(values: Iterable[tuple[str, str]]) -> list[Property]:
    return [Property(name=name, value=value) for name, value in values]


def _vulnerability(advisory: Advisory, references: Iterable[str]) -> Vulnerability:
    return Vulnerability(
        bom_ref=f"advisory:{advisory.id}",
        id=advisory.id,
        source=VulnerabilitySource(name="OSV", url=XsUri(ADVISORY + advisory.id)),
        description=advisory.summary,
        affects=[BomTarget(ref=reference) for reference in references],
    )
