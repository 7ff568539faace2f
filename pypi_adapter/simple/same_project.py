"""Pure: whether two index pages that one address gave at different times are of the same project."""

from __future__ import annotations

from .model import Page, ProjectList


def has_in_common(frozen: Page | ProjectList | None, shown: Page | ProjectList | None) -> bool:
    """Whether the page shown now lists a file of the frozen one, with the same name and hashes.

    A page for clients that are not signed in, such as a login page, lists none.
    """
    if not isinstance(frozen, Page) or not isinstance(shown, Page):
        return False
    return bool(_files(frozen) & _files(shown))


def _files(page: Page) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {(file.filename, tuple(sorted(file.hashes.items()))) for file in page.files}
