"""Versions of bitstore, and of the user's own code, in processes that have to work together."""

from __future__ import annotations

from collections.abc import Mapping

from bitstore.errors import BitstoreError
from ray_integration._own_code import changed_code

__all__ = ["VersionMismatch", "check_code"]


class VersionMismatch(BitstoreError, RuntimeError):
    """Two processes of a cluster that have to work together run different versions.

    Parameters
    ----------
    where
        Which process differs.
    found, expected
        The versions there, and where the pool was made.
    module
        The module of the user's own code whose source differs, if it is not bitstore itself: then the versions are
        hashes of the source.
    than
        What has the other source.
    """

    def __init__(
        self, where: str, found: str, expected: str, module: str | None = None, than: str = "the pool was made with"
    ) -> None:
        if module is None:
            message = (
                f"{where} runs bitstore {found}, but the pool was made by bitstore {expected}: "
                "install the same everywhere"
            )
        else:
            message = (
                f"{where} has another source of module {module} ({found}) than {than} ({expected}): "
                "bring the same to all nodes (runtime_env's working_dir or py_modules does) and make the pool again"
            )
        super().__init__(message, where, found, expected, module, than)


def check_code(where: str, code: Mapping[str, str]) -> None:
    """Raise VersionMismatch if this process has another code of a store than the process that made its pool."""
    if (changed := changed_code(code)) is not None:
        raise VersionMismatch(where, changed.here, changed.expected, changed.module)
