"""A package's index of names that are imported on first use: importing it, or one of its modules, loads no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_index(
    package: str, homes: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """``__all__``, ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        Its name.
    homes : mapping of str to str
        Names that it offers, with spaces between them, by the module inside of it that has them. The first part of a
        module's name is an attribute too, as it is where modules were imported, if only to be offered itself.

    Examples
    --------
    >>> offered, get, _ = lazy_index("certimetric.base", {"wording": "counted listing"})
    >>> offered, get("counted")(2, "row"), get("wording").__name__
    (['counted', 'listing'], '2 rows', 'certimetric.base.wording')
    """
    home = {name: module for module, names in homes.items() for name in names.split()}
    inside = {module.partition(".")[0] for module in homes}

    def get(name: str) -> Any:
        if name in home:
            return getattr(import_module(f"{package}.{home[name]}"), name)
        if name in inside:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return sorted(home), get, lambda: sorted({*vars(sys.modules[package]), *home, *inside})
