"""Parameters by name: layers that stay as they are, and groups with a learning rate of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from certimetric.base.arguments import ArgumentError, require
from certimetric.base.wording import did_you_mean


def under(name: str, prefixes: Iterable[str]) -> str | None:
    """The longest of the prefixes under which a name lies, part by part; None for none.

    Examples
    --------
    >>> under("model.layer1.weight", ["model", "model.layer1"]), under("model.layer10.weight", ["model.layer1"])
    ('model.layer1', None)
    """
    found = [prefix for prefix in prefixes if name == prefix or name.startswith(f"{prefix}.")]
    return max(found, key=len, default=None)


def check_prefixes(argument: str, prefixes: Iterable[str], modules: Mapping[str, nn.Module]) -> None:
    """Raise an ArgumentError for a prefix under which there is no parameter."""
    names = [f"{root}.{name}" for root, module in modules.items() for name, _ in module.named_parameters()]
    for prefix in prefixes:
        if not any(under(name, [prefix]) for name in names):
            known = {name.rpartition(".")[0] for name in names} | {*modules}
            hint = did_you_mean(prefix, sorted(known))
            raise ArgumentError(argument, "must name parts with parameters, such as 'model.body'", prefix, hint=hint)


def parameter_groups(
    modules: Mapping[str, nn.Module], learning_rates: Mapping[str, float], freeze: Sequence[str]
) -> list[Any]:
    """Parameters that are trained, as optimisers take them: a list, or groups where some have rates of their own.

    Parameters
    ----------
    modules : mapping of str to Module
        "model", and "loss" where it has parameters.
    learning_rates : mapping of str to float
        By the beginning of names, such as "model.body"; the longest that fits counts.
    freeze : sequence of str
        Beginnings of names of what is not trained.
    """
    check_prefixes("learning_rates", learning_rates, modules)
    check_prefixes("freeze", freeze, modules)
    groups: dict[str | None, list[nn.Parameter]] = {}
    for root, module in modules.items():
        for name, parameter in module.named_parameters():
            full = f"{root}.{name}"
            if parameter.requires_grad and under(full, freeze) is None:
                groups.setdefault(under(full, learning_rates), []).append(parameter)
    require(bool(groups) or not freeze, "freeze", "must leave something to be trained", list(freeze))
    if not learning_rates:
        return groups.get(None, [])
    rates = {prefix: {"lr": rate} for prefix, rate in learning_rates.items()}
    return [{"params": parameters, **rates.get(prefix or "", {})} for prefix, parameters in groups.items()]


def frozen_parts(modules: Mapping[str, nn.Module], freeze: Sequence[str]) -> list[nn.Module]:
    """Modules under the prefixes, which stay in evaluation mode: statistics of batches do not move them."""
    return [
        part
        for root, module in modules.items()
        for name, part in module.named_modules()
        if under(f"{root}.{name}".rstrip("."), freeze) is not None
    ]
