"""What may change of which feature, by name, from a file of TOML, as a threat model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from certimetric.base.wording import did_you_mean, first_line, listing
from certimetric.geometry.threat_models import ThreatModel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class FeatureRules:
    """What is said of features by their names; the names may be those of columns that were encoded into several.

    Parameters
    ----------
    immutable, integer : tuple of str
    bounds : mapping of str to pair of float or None
        Smallest and largest value.
    direction : mapping of str to {"increase", "decrease"}
    cost : mapping of str to float
    one_hot : tuple of tuples of str
        Groups of features of which exactly one is 1.

    Examples
    --------
    >>> rules = FeatureRules.from_toml('[age]\\nbounds = [18, 100]\\n["net income, monthly"]\\nimmutable = true')
    >>> rules.threat(ThreatModel("l2"), ["age", "net income, monthly"]).immutable
    (1,)
    """

    immutable: tuple[str, ...] = ()
    integer: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    direction: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    one_hot: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> FeatureRules:
        """The rules of a file: a table for each feature, such as ``[age]`` with ``bounds = [18, 100]``.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is no TOML, or says what no feature has.
        """
        where = repr(os.fspath(path))
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no file {where}") from None
        except UnicodeDecodeError:
            raise ValueError(f"{where} is not UTF-8 text") from None
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    @classmethod
    def from_toml(cls, text: str) -> FeatureRules:
        """The rules of a text of TOML."""
        try:
            told = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ValueError(f"this is no TOML: {first_line(error)}") from None
        groups = told.pop("one_hot", [])
        if not isinstance(groups, list) or not all(_is_texts(group) for group in groups):
            raise ValueError(f"one_hot must be a list of lists of features, got {groups!r}")
        found: dict[str, dict[str, Any]] = {name: {} for name in _READERS}
        for feature, rules in told.items():
            if not isinstance(rules, dict):
                raise ValueError(f"feature {feature!r} must have a table of its own, [{feature}], got {rules!r}")
            for key, value in rules.items():
                if key not in _READERS:
                    raise ValueError(
                        f"feature {feature!r} has {key!r}{did_you_mean(key, _READERS)}: known are {', '.join(_READERS)}"
                    )
                wanted, read = _READERS[key]
                try:
                    found[key][feature] = read(value)
                except (TypeError, ValueError):
                    raise ValueError(f"{key} of feature {feature!r} must be {wanted}, got {value!r}") from None
        immutable, integer = (
            tuple(name for name, said in found.pop(key).items() if said) for key in ("immutable", "integer")
        )
        return cls(immutable, integer, one_hot=tuple(map(tuple, groups)), **found)

    def threat(
        self, threat: ThreatModel, names: Sequence[str], columns: Mapping[str, Sequence[str]] | None = None
    ) -> ThreatModel:
        """A threat model with what is said here besides, by the positions of features of these names.

        Parameters
        ----------
        threat : ThreatModel
        names : sequence of str
        columns : mapping of str to sequence of str, optional
            Names of the features that each column of a table became. A category that is immutable is so in all of them.

        Raises
        ------
        ValueError
            If a name is unknown, or says of a category what only a number has.
        """
        columns, places = columns or {}, {name: place for place, name in enumerate(names)}
        kinds = self.immutable, self.integer, self.bounds, self.direction, self.cost, *self.one_hot
        for name in [name for rules in kinds for name in rules]:
            if name not in places and name not in columns:
                known = dict.fromkeys([*columns, *names])
                raise ValueError(
                    f"the rules name the feature {name!r}, which is not there{did_you_mean(name, known)}: there are "
                    f"{listing(known, limit=12)}"
                )

        def number(name: str, key: str) -> int:
            if name not in places:
                raise ValueError(f"{key} is for numbers, and {name!r} is a category: it can be immutable only")
            return places[name]

        low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        if threat.bounds is not None:
            for limit, said in zip((low, high), threat.bounds):
                limit[:] = limit if said is None else said
        for name, pair in self.bounds.items():
            for limit, said in zip((low, high), pair):
                limit[number(name, "bounds")] = limit[places[name]] if said is None else said
        further: dict[str, Any] = {}
        for key in ("direction", "cost"):
            if told := {number(name, key): value for name, value in getattr(self, key).items()}:
                further[key] = {**getattr(threat, key), **told}
        immutable: list[int | str] = []
        for each in (*threat.immutable, *self.immutable):
            if isinstance(each, str):  # of a column that was encoded: all of its features
                immutable += [places.get(name, name) for name in columns.get(each, (each,))]
            else:
                immutable.append(each)
        return replace(
            threat,
            bounds=(low, high) if self.bounds else threat.bounds,
            immutable=tuple(immutable),
            integer=(*threat.integer, *(number(name, "integer") for name in self.integer)),
            one_hot=(*threat.one_hot, *([number(name, "one_hot") for name in group] for group in self.one_hot)),
            **further,
        )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _pair(value: Any) -> tuple[float | None, float | None]:
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError
    low, high = (None if each == "" else _size(each) for each in value)
    if low is not None and high is not None and low > high:
        raise ValueError
    return low, high


def _size(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise TypeError
    return float(value)


def _cost(value: Any) -> float:
    if not 0 < _size(value) < np.inf:
        raise ValueError
    return float(value)


def _direction(value: Any) -> str:
    if value not in ("increase", "decrease"):
        raise ValueError
    return str(value)


_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "bounds": ('[lowest, highest], with inf or "" where there is none', _pair),
    "direction": ('"increase" or "decrease"', _direction),
    "cost": ("a positive number", _cost),
    "immutable": ("true or false", _flag),
    "integer": ("true or false", _flag),
}
