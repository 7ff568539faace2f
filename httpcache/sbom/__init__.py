"""Bills of materials (SBOMs) of labelled builds, as CycloneDX and SPDX, and what differs between two builds."""
