"""What the pages know of a registry, and how a visitor names one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from httpcache.errors import NotFound
from httpcache.page import Visit
from pypi_adapter.policy.rule_log import CurrentPolicy
from pypi_adapter.registry.registry import Registry


@dataclass(frozen=True)
class Known:
    """A registry and the policy for it."""

    registry: Registry
    policy: CurrentPolicy


def chosen(known: Sequence[Known], visit: Visit) -> Known:
    """Return the registry that a visit names with `?registry=`, else the built-in one. Raises NotFound."""
    name = visit.query.get("registry", "") or known[0].registry.name
    for each in known:
        if each.registry.name == name:
            return each
    raise NotFound("there is no such registry")
