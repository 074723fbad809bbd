"""Warnings that point at the line of the user, however many frames of the package lie between."""

from __future__ import annotations

import sys
import warnings

# Whose frames are passed over: the package, and those through which it is called and calls itself.
_PASSED = {"certimetric", "concurrent", "contextlib", "functools", "joblib", "sklearn", "threading", "torch"}


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as of the first frame outside the package (its outermost one where there is none, as in a worker)."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
