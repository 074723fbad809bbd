"""Threat models: what may change of an instance, within what limits, and how the change is measured.

By whom does not matter: of an attacker it is what he can do, of whoever asks what would have to be different, what can
be acted upon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certimetric.base.arrays import Array, Indices
from certimetric.geometry.norms import Norm, resolve_norm

Feature = int | str
DIRECTIONS = ("increase", "decrease")

_WHOLE = 1e-6  # distance from a whole number (or from 0 and 1) that still counts as one


@dataclass(frozen=True, eq=False)
class ThreatModel:
    """What an attacker may do to an instance, or whoever looks for a change that can be made.

    Parameters
    ----------
    norm : {"l2", "linf", "l1"}, array-like of shape (d, d) or Norm, default="l2"
        How a change is measured; a matrix A stands for ``√(δᵀAδ)``. Features that a restricted norm does not allow to
        change are immutable.
    eps : float, default=None
        Budget: only changes of at most this size count. None asks for the smallest change that works.
    bounds : pair of floats or of array-likes of shape (d,), default=None
        Smallest and largest value that a feature may take; None where there is none.
    immutable : sequence of int or str, default=()
        Features that cannot be changed, by position or by name.
    integer : sequence of int or str, default=()
        Features that stay whole numbers.
    one_hot : sequence of sequences of int or str, default=()
        Groups of features of which exactly one is 1 and the others are 0.
    direction : mapping of int or str to {"increase", "decrease"}, default={}
        Features that change in one direction only: an age that grows.
    cost : mapping of int or str to float, default={}
        What the norm counts a change of one unit of a feature as, 1 for those that are not named.

    Notes
    -----
    All of it is said in the units of the data that the predictor takes: behind a scaler no feature is whole.
    :func:`certimetric.in_original_units` takes the scaler out.

    Examples
    --------
    >>> threat = ThreatModel("l2", bounds=(0.0, 10.0), immutable=[0], integer=[2])
    >>> import numpy as np
    >>> threat.bind(3).repair(np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 12.5, 3.7]]))
    array([[ 1., 10.,  4.]])
    """

    norm: Any = "l2"
    eps: float | None = None
    bounds: tuple[Any, Any] | None = None
    immutable: Sequence[Feature] = ()
    integer: Sequence[Feature] = ()
    one_hot: Sequence[Sequence[Feature]] = ()
    direction: Mapping[Feature, str] = field(default_factory=dict)
    cost: Mapping[Feature, float] = field(default_factory=dict)

    def bind(self, n_features: int, feature_names: Sequence[str] | None = None) -> BoundThreat:
        """The threat model for data of ``n_features`` columns.

        Raises
        ------
        ValueError
            If a feature is unknown, a bound, a group, a direction, a cost or the budget makes no sense, or the norm is
            unknown.
        """
        eps = None
        if self.eps is not None:
            if not isinstance(self.eps, Real) or not 0 <= self.eps < np.inf:
                raise ValueError(f"eps of a threat model must be a size of at least 0 or None, got {self.eps!r}")
            eps = float(self.eps)
        norm = resolve_norm(self.norm)
        norm.norm(np.zeros(n_features))  # one message for an ellipsoid of another number of features
        norm, allowed = norm.unrestricted()
        names = None if feature_names is None else [str(name) for name in feature_names]
        mutable = np.broadcast_to(allowed, n_features).copy()
        mutable[_positions(self.immutable, "immutable", n_features, names)] = False
        if not mutable.any():
            raise ValueError("a threat model must leave at least one feature that can be changed")
        integer = np.zeros(n_features, dtype=bool)
        integer[_positions(self.integer, "integer", n_features, names)] = True
        if not isinstance(self.one_hot, Sequence | np.ndarray) or isinstance(self.one_hot, str):
            raise ValueError(f"one_hot must be a sequence of groups of features, got {self.one_hot!r}")
        groups = [_positions(group, "one_hot", n_features, names) for group in self.one_hot]
        members = np.concatenate(groups) if groups else np.array([], dtype=np.int64)
        if len(np.unique(members)) < len(members):
            raise ValueError("a feature may be in one one_hot group only, and in that once")
        for group in groups:
            if len(group) < 2 or len(np.unique(mutable[group])) > 1:
                raise ValueError("a one_hot group needs at least two features, all immutable or none of them")
        sense = np.zeros(n_features, dtype=np.int64)
        for name, position in _by_feature(self.direction, "direction", n_features, names).items():
            if self.direction[name] not in DIRECTIONS:
                raise ValueError(
                    f"direction must be 'increase' or 'decrease', got {self.direction[name]!r} for {name!r}"
                )
            if position in members:
                raise ValueError(f"direction names {name!r}, which is in a one_hot group and changes both ways")
            sense[position] = 1 if self.direction[name] == "increase" else -1
        price = np.ones(n_features)
        for name, position in _by_feature(self.cost, "cost", n_features, names).items():
            if not isinstance(self.cost[name], Real) or not (self.cost[name] > 0 and isfinite(self.cost[name])):
                raise ValueError(f"cost must be positive numbers, got {self.cost[name]!r} for {name!r}")
            price[position] = self.cost[name]
        if (price != 1.0).any():
            norm = norm.in_units(1.0 / price)
        low, high = _limits(self.bounds, n_features)
        if (empty := integer & mutable & (np.ceil(low) > np.floor(high))).any():
            raise ValueError(f"the bounds of the integer feature {int(empty.argmax())} leave no whole number")
        if (mutable[members] & ((low[members] > 0) | (high[members] < 1))).any():
            raise ValueError("the bounds of one_hot features must let them be 0 and 1")
        return BoundThreat(norm, eps, low, high, mutable, integer, groups, sense)

    @classmethod
    def from_string(cls, text: str) -> ThreatModel:
        """Read ``NORM[:option=value,…]`` with the options eps, bounds (``LOW..HIGH``), immutable and integer (features
        joined by ``+``), one_hot (features joined by ``+``, groups by ``/``), increase and decrease (features joined by
        ``+`` that change in this direction only) and cost (``FEATURE:COST`` joined by ``+``).

        Examples
        --------
        >>> ThreatModel.from_string("linf:eps=0.2,bounds=0..1,immutable=age+sex")
        ThreatModel(norm='linf', eps=0.2, bounds=(0.0, 1.0), immutable=['age', 'sex'], integer=(), one_hot=(), ...)
        >>> told = ThreatModel.from_string("l1:increase=age,decrease=debt+rate,cost=age:2+debt:0.01")
        >>> told.direction, told.cost
        ({'age': 'increase', 'debt': 'decrease', 'rate': 'decrease'}, {'age': 2.0, 'debt': 0.01})
        """
        norm, _, options = text.partition(":")
        resolve_norm(norm.strip())
        settings: dict[str, Any] = {}
        for option in filter(None, (part.strip() for part in options.split(","))):
            key, _, value = (part.strip() for part in option.partition("="))
            if key not in _READERS:
                raise ValueError(f"threat model {text!r} has no option {key!r}; its options are {', '.join(_READERS)}")
            if not value:
                raise ValueError(f"option {key!r} of threat model {text!r} needs a value: {key}=…")
            try:
                read = _READERS[key](value)
            except ValueError:
                raise ValueError(f"option {key!r} of threat model {text!r} cannot be read from {value!r}") from None
            known = settings.setdefault("direction", {}) if key in DIRECTIONS else settings
            told = dict.fromkeys(read, key) if key in DIRECTIONS else {key: read}
            if twice := known.keys() & told.keys():
                raise ValueError(f"threat model {text!r} tells {min(twice)!r} twice")
            known.update(told)
        return cls(norm.strip(), **settings)


@dataclass(frozen=True, eq=False)
class BoundThreat:
    """A threat model for data with a known number of features (made by :meth:`ThreatModel.bind`).

    Parameters
    ----------
    norm : Norm
    eps : float or None
    low, high : array of shape (d,)
        Infinite where there is no bound.
    mutable, integer : bool array of shape (d,)
    one_hot : list of int arrays
    sense : int array of shape (d,)
        1 where a feature may only increase, −1 where it may only decrease, 0 else.
    """

    norm: Norm
    eps: float | None
    low: Array
    high: Array
    mutable: NDArray[np.bool_]
    integer: NDArray[np.bool_]
    one_hot: list[Indices]
    sense: Indices

    @property
    def discrete(self) -> bool:
        """Whether some features take separate values only."""
        return bool(self.integer.any() or self.one_hot)

    @property
    def boxed(self) -> bool:
        """Whether some feature has a bound, or changes in one direction only."""
        return bool(np.isfinite(self.low).any() or np.isfinite(self.high).any() or self.sense.any())

    @property
    def limited(self) -> bool:
        """Whether there is more to say than how a change is measured, and which features can change."""
        return self.boxed or self.discrete

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Features that can change and take separate values only, (d,)."""
        whole = self.integer.copy()
        for group in self.one_hot:
            whole[group] = True
        return whole & self.mutable

    def limits(self, X: Array) -> tuple[Array, Array]:
        """Smallest and largest values of the features of each instance, (m, d) both: bounds and directions."""
        low, high = (np.broadcast_to(bound, X.shape) for bound in (self.low, self.high))
        X = np.where(self.integer, np.round(X), X)  # a whole number but for rounding
        return np.where(self.sense > 0, np.maximum(low, X), low), np.where(self.sense < 0, np.minimum(high, X), high)

    def keeping(self, features: Indices) -> BoundThreat:
        """The same with some more features that cannot be changed."""
        mutable = self.mutable.copy()
        mutable[features] = False
        return replace(self, mutable=mutable)

    def size(self, delta: Array) -> Array:
        """Size of changes, (…, d) to (…)."""
        return np.asarray(self.norm.norm(delta))

    def repair(self, X: Array, adversarial: Array) -> Array:
        """The nearest points to ``adversarial`` that the attacker of X may make, feature by feature; (m, d) to (m, d).

        The budget is not looked at: a repaired point may be larger than ``eps``.
        """
        low, high = self.limits(X)
        repaired = np.clip(adversarial, low, high)
        whole = np.round(repaired[:, self.integer])
        repaired[:, self.integer] = np.clip(whole, np.ceil(low[:, self.integer]), np.floor(high[:, self.integer]))
        for group in self.one_hot:
            hot = repaired[:, group].argmax(axis=1)
            repaired[:, group] = 0.0
            repaired[np.arange(len(repaired)), group[hot]] = 1.0
        return np.where(self.mutable, repaired, X)

    def check_instances(self, X: Array) -> None:
        """Raise a ValueError if an instance is itself outside of what the threat model allows."""
        legal = self.repair(X, X.copy())
        wrong = np.abs(legal - X) > _WHOLE * (1.0 + np.abs(X))
        if wrong.any():
            row, feature = np.argwhere(wrong)[0]
            raise ValueError(
                f"instance {row} has the value {X[row, feature]:g} in feature {feature}, which the threat model's "
                f"bounds, integer or one_hot features do not allow"
            )


def resolve_threat(threat: Any) -> ThreatModel:
    """Give the threat model for a threat model, a norm (the smallest change in it), or a string.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(threat, ThreatModel):
        return threat
    if isinstance(threat, str):
        return ThreatModel.from_string(threat)
    return ThreatModel(resolve_norm(threat))


def _positions(features: Sequence[Feature], option: str, d: int, names: list[str] | None) -> Indices:
    if isinstance(features, str) or not isinstance(features, Sequence | np.ndarray):
        raise ValueError(f"{option} must be a sequence of features, got {features!r}")
    positions = []
    for feature in features:
        if isinstance(feature, str) and names is not None and feature in names:
            if names.count(feature) > 1:
                raise ValueError(f"{option} names the feature {feature!r}, but the data have more than one so called")
            positions.append(names.index(feature))
        elif _is_position(feature):
            positions.append(int(feature))
        else:
            known = f"; known are {', '.join(names[:8])}" + ("…" if len(names) > 8 else "") if names else ""
            raise ValueError(f"{option} names the unknown feature {feature!r}{known}")
        if not 0 <= positions[-1] < d:
            raise ValueError(f"{option} names feature {positions[-1]}, but the data have {d} features")
    return np.array(positions, dtype=np.int64)


def _by_feature(told: Mapping[Feature, Any], option: str, d: int, names: list[str] | None) -> dict[Feature, int]:
    """Positions of the features that a mapping names, by their names in it."""
    if not isinstance(told, Mapping):
        raise ValueError(f"{option} must be a mapping of features, got {told!r}")
    positions = _positions(list(told), option, d, names).tolist()
    if len(set(positions)) < len(positions):
        raise ValueError(f"{option} names a feature twice, by name and by position")
    return dict(zip(told, positions))


def _is_position(feature: Feature) -> bool:
    if isinstance(feature, str):
        return feature.isdigit()
    return isinstance(feature, int | np.integer) and not isinstance(feature, bool)


def _limits(bounds: tuple[Any, Any] | None, d: int) -> tuple[Array, Array]:
    if bounds is None:
        return np.full(d, -np.inf), np.full(d, np.inf)
    if not isinstance(bounds, Sequence | np.ndarray) or isinstance(bounds, str) or len(bounds) != 2:
        raise ValueError(f"bounds must be a pair (lowest, highest), got {bounds!r}")
    limits = []
    for bound, none in zip(bounds, (-np.inf, np.inf)):
        try:
            values = np.asarray(none if bound is None else bound, dtype=float)
        except (TypeError, ValueError):
            raise ValueError(f"a bound must hold numbers, got {bound!r}") from None
        if values.shape not in ((), (d,)):
            raise ValueError(f"a bound must be a number or one for each of the {d} features, got shape {values.shape}")
        if np.isnan(values).any():
            raise ValueError("bounds must not be NaN")
        limits.append(np.broadcast_to(values, (d,)).astype(float))
    if (limits[0] > limits[1]).any():
        feature = int(np.flatnonzero(limits[0] > limits[1])[0])
        raise ValueError(
            f"the lower bound {limits[0][feature]:g} of feature {feature} is above the upper one, "
            f"{limits[1][feature]:g}"
        )
    return limits[0], limits[1]


def _read_bounds(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise ValueError
    return float(low) if low else -np.inf, float(high) if high else np.inf


def _read_features(text: str) -> list[str]:
    return [part.strip() for part in text.split("+") if part.strip()]


def _read_costs(text: str) -> dict[str, float]:
    parts = [part.rpartition(":") for part in _read_features(text)]
    costs = {name.strip(): float(cost) for name, _, cost in parts}
    if len(costs) < len(parts):
        raise ValueError
    return costs


_READERS: dict[str, Callable[[str], Any]] = {
    "eps": float,
    "bounds": _read_bounds,
    "immutable": _read_features,
    "integer": _read_features,
    "one_hot": lambda text: [_read_features(group) for group in text.split("/")],
    "increase": _read_features,
    "decrease": _read_features,
    "cost": _read_costs,
}
