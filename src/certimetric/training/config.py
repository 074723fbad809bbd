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

from certimetric.base.wording import did_you_mean, first_line
from certimetric.training.defenses import DEFENSES, DefenseSection, NoneSection
from certimetric.training.sections import (
    Component,
    DataSection,
    EvaluationSection,
    ModelSection,
    TrainingSection,
)

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
_CLASSES = 100  # that a loss is told of where the data are not known yet


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
        Of one of the kinds in ``certimetric.training.defenses``.
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
    certimetric.training.config.ConfigurationError: the configuration is wrong: [training] has no key 'epoch' ...
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
        ConfigurationError
            A ValueError with every wrong key and value, each in its line, beside the nearest right one.
        """
        return cls._checked(values, source, here=False)

    @classmethod
    def _checked(cls, values: Mapping[str, Any], source: str, here: bool) -> TrainingConfig:
        """The configuration; ``here``, what it names must be known on this machine, too."""
        faults = Faults()
        sections = {f.name for f in dataclasses.fields(cls)}
        for name in values:
            if name not in sections:
                faults.append(f"there is no section [{name}]{did_you_mean(name, sorted(sections))}")
            elif not isinstance(values[name], Mapping):
                faults.append(f"{name} must be a section, [{name}], got {values[name]!r}")
        given = {name: value for name, value in values.items() if name in sections and isinstance(value, Mapping)}
        config = cls(
            data=_section(DataSection, "data", given.get("data", {}), faults),
            model=_model(given.get("model", {}), faults),
            loss=_component("loss", given.get("loss", {"name": "triplet"}), faults),
            miner=_component("miner", given["miner"], faults) if "miner" in given else None,
            defense=_defense(given.get("defense", {}), faults),
            training=_section(TrainingSection, "training", given.get("training", {}), faults),
            evaluation=_section(EvaluationSection, "evaluation", given.get("evaluation", {}), faults),
        )
        _judge(config, faults)
        if here:
            _look_around(config, faults)
        if faults:
            raise ConfigurationError(source, faults)
        return config

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> TrainingConfig:
        """Read a TOML file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not TOML, or says something wrong: with every wrong key and value, names of data sets and runs that
            are not here among them.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no configuration file {str(path)!r}")
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{str(path)!r} is not a TOML file: {first_line(error)}") from None
        return cls._checked(values, repr(str(path)), here=True)

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


class Faults(list[str]):
    """What is wrong, in words, and of which keys, so that nothing more is said about these."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[tuple[str, str]] = set()

    def of(self, section: str, key: str, fault: str) -> None:
        """A fault of a key: the rest of the configuration is judged without it."""
        self.append(fault)
        self.keys.add((section, key))

    def know(self, section: str, *keys: str) -> bool:
        """Whether something is known to be wrong about one of these keys."""
        return any((section, key) in self.keys for key in keys)


class ConfigurationError(ValueError):
    """All that is wrong with a configuration: one fault in one line, several in a line each.

    Attributes
    ----------
    faults : tuple of str
    """

    def __init__(self, source: str, faults: Sequence[str]):
        self.faults = tuple(faults)
        told = f"{source} is wrong: {faults[0]}"
        if len(faults) > 1:
            told = "\n".join([f"{source} is wrong in {len(faults)} places:", *(f"  {fault}" for fault in faults)])
        super().__init__(told)


def _section(cls: type, name: str, given: Mapping[str, Any], faults: Faults) -> Any:
    """One section, with a fault for each wrong key or value; what is wrong has its default, or nothing, in it."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in fields:
            faults.append(f"[{name}] has no key {key!r}{did_you_mean(key, sorted(fields))}")
            continue
        try:
            values[key] = _convert(hints[key], value)
        except ValueError as error:
            faults.of(name, key, f"{key} in [{name}] must be {error}, got {value!r}")
    for f in fields.values():
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in values:
            if f.name not in given:
                faults.of(name, f.name, f"[{name}] needs the key {f.name!r}")
            values[f.name] = ""
    return cls(**values)


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
    wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[hint]
    kinds = (int, float) if hint is float else hint
    if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(wanted)
    if hint is float and not math.isfinite(value):
        raise ValueError("a finite number")
    return hint(value)


def _model(given: Mapping[str, Any], faults: Faults) -> ModelSection:
    from certimetric.deep.models.network import model_options

    known = {key: value for key, value in given.items() if key in ("name", "dim")}
    options = {key: value for key, value in given.items() if key not in known}
    section: ModelSection = _section(ModelSection, "model", known, faults)
    if faults.know("model", "name"):
        return section
    try:
        names = model_options(section.name)
    except ValueError as error:
        faults.of("model", "name", f"name in [model]: {error}")
        return section
    if names is not None:
        for key in set(options) - set(names):
            hint = did_you_mean(key, ["name", "dim", *names])
            faults.append(f"[model] has no key {key!r}{hint} for {section.name!r}")
            del options[key]
    return dataclasses.replace(section, options=options)


def _component(section: str, given: Mapping[str, Any], faults: Faults) -> Component:
    name = given.get("name")
    if not isinstance(name, str):
        faults.of(section, "name", f"[{section}] needs the key 'name'")
        return Component("")
    options = {key: value for key, value in given.items() if key != "name"}
    try:
        made = component_class(section, name)
    except ValueError as error:
        faults.of(section, "name", str(error))
        return Component(name, options)
    defaults = {key: value for key, value in component_parameters(made).items() if key not in (*TOLD, *OBJECTS)}
    for key, value in options.items():
        default = defaults.get(key)
        if key not in defaults:
            told = f"[{section}] has no key {key!r}{did_you_mean(key, [*defaults])} for {name!r}"
            faults.of(section, key, told)
        elif _is_number(default) and not _is_number(value):
            faults.of(section, key, f"{key} in [{section}] must be a number, got {value!r}")
        elif isinstance(default, bool) and not isinstance(value, bool):
            faults.of(section, key, f"{key} in [{section}] must be true or false, got {value!r}")
    return Component(name, {key: value for key, value in options.items() if not faults.know(section, key)})


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


def _defense(given: Mapping[str, Any], faults: Faults) -> DefenseSection:
    kind = given.get("kind", "none")
    if not isinstance(kind, str) or kind not in DEFENSES:
        known = ", ".join(map(repr, DEFENSES))
        hint = did_you_mean(kind, list(DEFENSES)) if isinstance(kind, str) else ""
        faults.of("defense", "kind", f"kind in [defense] must be one of {known}, got {kind!r}{hint}")
        return NoneSection()
    read: DefenseSection = _section(DEFENSES[kind], "defense", given, faults)
    return read


def _judge(config: TrainingConfig, faults: Faults) -> None:
    """What is wrong about values that are of the right type."""
    from certimetric.deep.train.augmentation import AUGMENTATIONS

    d, t, e = config.data, config.training, config.evaluation
    rules = [
        ("data", ["size"], d.size is None or d.size >= 1, f"size in [data] must be at least 1, got {d.size}"),
        ("training", ["epochs"], t.epochs >= 1, f"epochs in [training] must be at least 1, got {t.epochs}"),
        ("training", ["per_class"], t.per_class >= 1, f"per_class in [training] must be at least 1, got {t.per_class}"),
        (
            "training",
            ["batch_size", "per_class"],
            t.batch_size >= 2 * t.per_class,
            f"batch_size in [training] must be at least two classes of per_class = {t.per_class}, got {t.batch_size}",
        ),
        (
            "training",
            ["learning_rate"],
            t.learning_rate > 0,
            f"learning_rate in [training] must be positive, got {t.learning_rate:g}",
        ),
        (
            "training",
            ["weight_decay"],
            t.weight_decay >= 0,
            f"weight_decay in [training] must not be negative, got {t.weight_decay:g}",
        ),
        (
            "training",
            ["ema"],
            t.ema is None or 0 < t.ema < 1,
            f"ema in [training] must lie between 0 and 1, got {t.ema}",
        ),
        ("training", ["devices"], t.devices >= 1, f"devices in [training] must be at least 1, got {t.devices}"),
        ("training", ["workers"], t.workers >= 0, f"workers in [training] must be at least 0, got {t.workers}"),
        ("training", ["seed"], t.seed >= 0, f"seed in [training] must be at least 0, got {t.seed}"),
        ("model", ["dim"], config.model.dim >= 1, f"dim in [model] must be at least 1, got {config.model.dim}"),
        ("evaluation", ["every"], e.every >= 0, f"every in [evaluation] must be at least 0, got {e.every}"),
        ("evaluation", ["queries"], e.queries >= 1, f"queries in [evaluation] must be at least 1, got {e.queries}"),
        ("evaluation", ["steps"], e.steps >= 1, f"steps in [evaluation] must be at least 1, got {e.steps}"),
        (
            "evaluation",
            ["every", "eps"],
            e.every <= 0 or e.eps is not None,
            "every in [evaluation] needs eps, the size of the perturbation",
        ),
        ("evaluation", ["eps"], e.eps is None or e.eps >= 0, f"eps in [evaluation] must not be negative, got {e.eps}"),
    ]
    faults += [told for section, keys, holds, told in rules if not faults.know(section, *keys) and not holds]
    for name in dict.fromkeys(t.augment):
        if name not in AUGMENTATIONS:
            hint = did_you_mean(name, list(AUGMENTATIONS))
            faults.append(f"augment in [training] must name {', '.join(AUGMENTATIONS)}, got {name!r}{hint}")
    faults += config.defense.faults({key for section, key in faults.keys if section == "defense"})
    if config.loss.name == CERTIFIED and (config.miner is not None or hasattr(config.defense, "per_anchor")):
        faults.append(f"the loss {CERTIFIED!r} takes all triplets: no miner, and no defense that mines")
    _make(config, faults)


def _make(config: TrainingConfig, faults: Faults) -> None:
    """Make loss, miner and model as far as nothing is known to be wrong about them: they know their own values."""
    from certimetric.deep.defenses.base import check_compares_samples
    from certimetric.deep.defenses.loss_support import check_loss
    from certimetric.training.parts import make_component, model_values

    mines = config.miner is not None or hasattr(config.defense, "per_anchor")
    for section in ("loss", "miner"):
        if getattr(config, section) is not None and not any(told == section for told, _ in faults.keys):
            try:
                made = make_component(config, section, _CLASSES)
                if section == "loss":
                    check_loss(made, mines)
                    if config.defense.compares_samples:
                        check_compares_samples(made, f"the defense {config.defense.kind!r}")  # type: ignore[attr-defined]
            except (TypeError, ValueError) as error:
                faults.append(str(error))
    if not any(section == "model" for section, _ in faults.keys) and config.model.dim >= 1:
        faults += model_values(config)


def _look_around(config: TrainingConfig, faults: Faults) -> None:
    """What is named and not here: data sets that are not known, and runs."""
    from certimetric.datasets.images.sets import IMAGE_SETS

    name = config.data.name
    known = name in IMAGE_SETS or name.endswith(".npz") or (config.data.root is None and Path(name).is_dir())
    if not known and not faults.know("data", "name"):
        hint = did_you_mean(name, IMAGE_SETS)
        faults.append(
            f"name in [data] must be an image set, a folder or an .npz file, got {name!r}{hint}; "
            f"known sets are {', '.join(IMAGE_SETS)}"
        )
    for source in getattr(config.defense, "sources", ()):
        if not (Path(source) / "run.json").is_file():
            faults.append(f"sources in [defense] must be folders of runs, got {source!r}")
