"""Pure: whether two index pages of one address are of the same project, at two times."""

from __future__ import annotations

from .model import Page, ProjectList


def has_in_common(frozen: Page | ProjectList | None, shown: Page | ProjectList | None) -> bool:
    """Whether a page that is shown now lists a file of the one that was frozen, by its name and hashes.

    A page for strangers, such as one to sign in, lists none.
    """
    if not isinstance(frozen, Page) or not isinstance(shown, Page):
        return False
    return bool(_files(frozen) & _files(shown))


def _files(page: Page) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {(file.filename, tuple(sorted(file.hashes.items()))) for file in page.files}
