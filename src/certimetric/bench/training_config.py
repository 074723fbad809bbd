"""The configuration of a training run: read from TOML, checked as a whole before any work."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from certimetric.bench.training_defenses import DEFENSES, DefenseSection, NoneSection
from certimetric.bench.training_sections import (
    Component,
    DataSection,
    EvaluationSection,
    ModelSection,
    TrainingSection,
)
from certimetric.datasets.wording import did_you_mean, first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Short names of losses with the settings of the paper; every other loss goes by its class.
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "triplet": ("TripletMarginLoss", {"margin": 0.2}),
    "contrastive": ("ContrastiveLoss", {"neg_margin": 1.0}),
}
CERTIFIED = "certified"
# What a loss needs to know of model and data, which it is told.
TOLD = ("embedding_size", "num_classes")
# What is no plain value, and cannot be said in a file: a loss with such parts is for RobustTrainer in Python.
OBJECTS = ("distance", "reducer", "embedding_regularizer", "weight_regularizer", "weight_init_func", "mat_based_loss")
_COMPONENTS = {"loss": "losses", "miner": "miners"}


@dataclass(frozen=True)
class TrainingConfig:
    """A training run: what a configuration file says, with its defaults.

    Parameters
    ----------
    data : DataSection
    model : ModelSection
    loss : Component
    miner : Component or None
        None for distance-weighted sampling under the defenses that perturb tuples, and for none elsewhere.
    defense : DefenseSection
        Of one of the kinds in ``certimetric.bench.training_defenses``.
    training : TrainingSection
    evaluation : EvaluationSection

    Examples
    --------
    >>> config = TrainingConfig.from_mapping({"data": {"name": "digits"}, "defense": {"kind": "batch", "eps": 0.1}})
    >>> config.loss.name, config.defense.eps, config.training.epochs
    ('triplet', 0.1, 20)
    >>> TrainingConfig.from_mapping({"data": {"name": "digits"}, "training": {"epoch": 3}})
    Traceback (most recent call last):
        ...
    ValueError: the configuration is wrong: [training] has no key 'epoch' (did you mean 'epochs'?)
    """

    data: DataSection
    model: ModelSection = field(default_factory=ModelSection)
    loss: Component = field(default_factory=lambda: Component("triplet"))
    miner: Component | None = None
    defense: DefenseSection = field(default_factory=NoneSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "the configuration") -> TrainingConfig:
        """Check a configuration given as nested mappings.

        Raises
        ------
        ValueError
            With every wrong key and value, each beside the nearest right one.
        """
        faults: list[str] = []
        sections = {f.name for f in dataclasses.fields(cls)}
        for name in values:
            if name not in sections:
                faults.append(f"there is no section [{name}]{did_you_mean(name, sorted(sections))}")
            elif not isinstance(values[name], Mapping):
                faults.append(f"{name} must be a section, [{name}], got {values[name]!r}")
        given = {name: value for name, value in values.items() if name in sections and isinstance(value, Mapping)}
        read: dict[str, Any] = {
            "data": _section(DataSection, "data", given.get("data", {}), faults),
            "model": _model(given.get("model", {}), faults),
            "loss": _component("loss", given.get("loss", {"name": "triplet"}), faults),
            "miner": _component("miner", given["miner"], faults) if "miner" in given else None,
            "defense": _defense(given.get("defense", {}), faults),
            "training": _section(TrainingSection, "training", given.get("training", {}), faults),
            "evaluation": _section(EvaluationSection, "evaluation", given.get("evaluation", {}), faults),
        }
        if not faults:
            faults = _impossible(cls(**read))
        if faults:
            raise ValueError(f"{source} is wrong: {'; '.join(faults)}")
        return cls(**read)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> TrainingConfig:
        """Read a TOML file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not TOML, or says something wrong.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no configuration file {str(path)!r}")
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{str(path)!r} is not a TOML file: {first_line(error)}") from None
        return cls.from_mapping(values, repr(str(path)))

    def to_mapping(self) -> dict[str, Any]:
        """Nested mappings that :meth:`from_mapping` reads again."""
        out: dict[str, Any] = {}
        for f in dataclasses.fields(self):
            section = getattr(self, f.name)
            if section is None:
                continue
            values = dataclasses.asdict(section)
            values |= values.pop("options", {})
            out[f.name] = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}
        return out


def _section(cls: type, name: str, given: Mapping[str, Any], faults: list[str]) -> Any:
    """One section; None, and a fault for each wrong key or value, where it cannot be read."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    before, values = len(faults), {}
    for key, value in given.items():
        if key not in fields:
            faults.append(f"[{name}] has no key {key!r}{did_you_mean(key, sorted(fields))}")
            continue
        try:
            values[key] = _convert(hints[key], value)
        except ValueError as error:
            faults.append(f"{key} in [{name}] must be {error}, got {value!r}")
    missing = [
        f.name
        for f in fields.values()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in given
    ]
    faults += [f"[{name}] needs the key {key!r}" for key in missing]
    return cls(**values) if len(faults) == before else None


def _convert(hint: Any, value: Any) -> Any:
    """The value as the hint wants it; the error says what is wanted."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert(next(a for a in arguments if a is not type(None)), value)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError("a list")
        return tuple(_convert(arguments[0], item) for item in value)
    wanted = {int: "a whole number", float: "a number", str: "text"}[hint]
    if isinstance(value, bool) or not isinstance(value, (int, float) if hint is float else hint):
        raise ValueError(wanted)
    if hint is float and not math.isfinite(value):
        raise ValueError("a finite number")
    return hint(value)


def _model(given: Mapping[str, Any], faults: list[str]) -> ModelSection | None:
    from certimetric.deep.models import model_options

    known = {key: value for key, value in given.items() if key in ("name", "dim")}
    options = {key: value for key, value in given.items() if key not in known}
    section = _section(ModelSection, "model", known, faults)
    if section is None:
        return None
    try:
        names = model_options(section.name)
    except ValueError as error:
        faults.append(f"name in [model]: {error}")
        return None
    if names is not None:
        faults += [
            f"[model] has no key {key!r}{did_you_mean(key, ['name', 'dim', *names])} for {section.name!r}"
            for key in options
            if key not in names
        ]
    return dataclasses.replace(section, options=options)


def _component(section: str, given: Mapping[str, Any], faults: list[str]) -> Component | None:
    name = given.get("name")
    if not isinstance(name, str):
        faults.append(f"[{section}] needs the key 'name'")
        return None
    options = {key: value for key, value in given.items() if key != "name"}
    try:
        made = component_class(section, name)
    except ValueError as error:
        faults.append(str(error))
        return None
    defaults = {key: value for key, value in component_parameters(made).items() if key not in (*TOLD, *OBJECTS)}
    for key, value in options.items():
        if key not in defaults:
            faults.append(f"[{section}] has no key {key!r}{did_you_mean(key, [*defaults])} for {name!r}")
        elif _is_number(defaults[key]) and not _is_number(value):
            faults.append(f"{key} in [{section}] must be a number, got {value!r}")
    return Component(name, options)


def component_class(section: str, name: str) -> Callable[..., Any]:
    """The class of pytorch-metric-learning that ``[loss]`` or ``[miner]`` names; "certified" is a loss of our own."""
    if section == "loss" and name == CERTIFIED:
        from certimetric.deep import CertifiedMarginLoss

        return CertifiedMarginLoss
    import pytorch_metric_learning.losses
    import pytorch_metric_learning.miners

    module = getattr(pytorch_metric_learning, _COMPONENTS[section])
    classes = [key for key in dir(module) if inspect.isclass(getattr(module, key))]
    wanted = LOSSES[name][0] if section == "loss" and name in LOSSES else name
    if wanted not in classes:
        short = [*LOSSES, CERTIFIED] if section == "loss" else []
        hint = did_you_mean(name, [*short, *classes])
        raise ValueError(f"name in [{section}] is no class of pytorch_metric_learning.{_COMPONENTS[section]}{hint}")
    return getattr(module, wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def component_parameters(made: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a class with their defaults, those of its bases among them."""
    found: dict[str, Any] = {}
    for base in inspect.getmro(made):  # type: ignore[arg-type]
        if not base.__module__.startswith(("pytorch_metric_learning", "certimetric")):
            continue
        for parameter in inspect.signature(base).parameters.values():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter.default)
    return found


def _defense(given: Mapping[str, Any], faults: list[str]) -> DefenseSection | None:
    kind = given.get("kind", "none")
    if not isinstance(kind, str) or kind not in DEFENSES:
        known = ", ".join(map(repr, DEFENSES))
        faults.append(f"kind in [defense] must be one of {known}, got {kind!r}")
        return None
    read: DefenseSection | None = _section(DEFENSES[kind], "defense", given, faults)
    return read


def _impossible(config: TrainingConfig) -> list[str]:
    """What is wrong about values that are of the right kind."""
    from certimetric.deep.augmentation import augmentation

    t, e = config.training, config.evaluation
    rules = [
        (t.epochs >= 1, f"epochs in [training] must be at least 1, got {t.epochs}"),
        (t.per_class >= 1, f"per_class in [training] must be at least 1, got {t.per_class}"),
        (
            t.batch_size >= 2 * t.per_class,
            f"batch_size in [training] must be at least two classes of per_class = {t.per_class}, got {t.batch_size}",
        ),
        (t.learning_rate > 0, f"learning_rate in [training] must be positive, got {t.learning_rate:g}"),
        (t.weight_decay >= 0, f"weight_decay in [training] must not be negative, got {t.weight_decay:g}"),
        (t.ema is None or 0 < t.ema < 1, f"ema in [training] must lie between 0 and 1, got {t.ema}"),
        (t.devices >= 1 and t.workers >= 0, "devices and workers in [training] must be at least 1 and 0"),
        (config.model.dim >= 1, f"dim in [model] must be at least 1, got {config.model.dim}"),
        (e.every >= 0 and e.queries >= 1 and e.steps >= 1, "every, queries and steps in [evaluation] must be positive"),
        (not e.every or e.eps is not None, "every in [evaluation] needs eps, the size of the perturbation"),
        (e.eps is None or e.eps >= 0, f"eps in [evaluation] must not be negative, got {e.eps}"),
    ]
    if config.loss.name == CERTIFIED:
        mined = config.miner is not None or hasattr(config.defense, "per_anchor")
        rules.append((not mined, f"the loss {CERTIFIED!r} takes all triplets: no miner, and no defense that mines"))
    faults = [message for holds, message in rules if not holds] + config.defense.faults()
    try:
        augmentation(t.augment)
    except ValueError as error:
        faults.append(f"[training]: {error}")
    return faults
