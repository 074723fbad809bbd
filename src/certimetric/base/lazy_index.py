"""A package's index of names that are imported on first use: importing it, or one of its modules, loads no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import reduce
from importlib import import_module
from types import MappingProxyType
from typing import Any

from certimetric.base.warnings import warn


def lazy_index(
    package: str, homes: Mapping[str, str], moved: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """``__all__``, ``__getattr__`` and ``__dir__`` of a package.

    ``homes`` are the names that it offers, with spaces between them, by the module inside of it that has them; the
    first part of a module's name is an attribute too, as it is where modules were imported. ``moved`` are names of the
    version before, and ``module:name`` where each stands now: they are there still, with a :class:`DeprecationWarning`.

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
        if name in moved:
            module, _, attribute = moved[name].partition(":")
            warn(f"{package}.{name} is now {module}.{attribute}; the old name goes with 2.0", DeprecationWarning)
            return reduce(getattr, attribute.split("."), import_module(module))
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return sorted(home), get, lambda: sorted({*vars(sys.modules[package]), *home, *inside})
