"""Lints and renders a chart with Helm's own code, and checks what comes out against the schemas of Kubernetes.

Run by the Python of `make helm-tools`, which has both: a request as JSON on standard input, `{"chart": folder, "name":
release, "values": {...}, "versions": [...]}`, and the answer as JSON: the linter's messages, the objects by the path
of their template, the text of the notes, what Kubernetes refuses; or `{"refused": text}` if Helm does.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import helm_python
import kubernetes_validate
import yaml

NOTES = "NOTES.txt"


def answer(chart: str, name: str, values: dict[str, Any], versions: list[str]) -> dict[str, Any]:
    """Lint and render a chart; a value that its schema does not allow is a refusal."""
    try:
        messages = helm_python.lint(chart, values, strict=True, kube_version=f"v{versions[0]}")["messages"]
        with helm_python.Chart.load(chart) as loaded:
            loaded.validate_schema(values)
            rendered = loaded.render(values, name=name, namespace="default")
    except helm_python.HelmError as error:
        return {"refused": str(error)}
    texts = {path.rpartition("/")[2]: text for path, text in rendered.items()}
    notes = texts.pop(NOTES)
    objects = {path: loaded for path, text in texts.items() if (loaded := yaml.safe_load(text)) is not None}
    invalid = [error for each in objects.values() for version in versions for error in _invalid(each, version)]
    return {"messages": messages, "objects": objects, "notes": notes, "invalid": invalid}


def _invalid(each: dict[str, Any], version: str) -> list[str]:
    """What a version of Kubernetes refuses of an object; no field may be unknown to it."""
    try:
        kubernetes_validate.validate(each, version, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return [f"{version}: {each['kind']}: {error}"]
    return []


if __name__ == "__main__":
    json.dump(answer(**json.load(sys.stdin)), sys.stdout)
