"""The configuration of a training run: read from TOML, checked as a whole before any work."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from certimetric.base.arguments import ArgumentError, chosen
from certimetric.base.wording import did_you_mean, first_line
from certimetric.datasets.images.sets import IMAGE_SETS
from certimetric.training import sections
from certimetric.training.keys import NEEDED, ConfigurationError, Faults, Part, Section, read_section
from certimetric.training.sections import CERTIFIED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MODEL, LOSS, DEFENSE = "small-cnn", "triplet", "none"  # where nothing is said
RUN_FILE = "run.json"
_CLASSES = 100  # that a loss is told of where the data are not known yet


@dataclass(frozen=True)
class TrainingConfig:
    """A training run: what a configuration file says, with its defaults.

    Its sections have their keys as attributes. The keys are the parameters of what they configure, of the model, the
    loss and the miner only those that are said: see ``certimetric.training.sections``.

    Attributes
    ----------
    data, model, loss, defense, training, evaluation : Section
    miner : Section or None
        None for distance-weighted sampling under the defenses that perturb tuples, and for none elsewhere.

    Examples
    --------
    >>> config = TrainingConfig.from_mapping({"data": {"name": "digits"}, "defense": {"kind": "batch", "eps": 0.1}})
    >>> config.loss.name, config.defense.eps, config.training.epochs
    ('triplet', 0.1, 20)
    >>> TrainingConfig.from_mapping({"data": {"name": "digits"}, "training": {"epoch": 3}})
    Traceback (most recent call last):
        ...
    certimetric.training.keys.ConfigurationError: the configuration is wrong: [training] has no key 'epoch' ...
    """

    data: Section
    model: Section
    loss: Section
    miner: Section | None
    defense: Section
    training: Section
    evaluation: Section

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
        known = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                faults.append(f"there is no section [{name}]{did_you_mean(name, sorted(known))}")
            elif not isinstance(values[name], Mapping):
                faults.append(f"{name} must be a section, [{name}], got {values[name]!r}")
        given = {name: value for name, value in values.items() if name in known and isinstance(value, Mapping)}
        config = cls(
            data=_plain("data", [sections.data()], given, faults),
            model=_model({"name": MODEL, **given.get("model", {})}, faults),
            loss=_component("loss", given.get("loss", {"name": LOSS}), faults),
            miner=_component("miner", given["miner"], faults) if "miner" in given else None,
            defense=_defense(given.get("defense", {}), faults),
            training=_plain("training", sections.training().values(), given, faults),
            evaluation=_plain("evaluation", [sections.evaluation()], given, faults),
        )
        _judge_together(config, faults)
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
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is not a TOML file: {first_line(error)}") from None
        return cls._checked(values, repr(str(path)), here=True)

    def to_mapping(self) -> dict[str, Any]:
        """Nested mappings that :meth:`from_mapping` reads again."""
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            name: {key: list(v) if isinstance(v, tuple) else v for key, v in section.items() if v is not None}
            for name, section in told.items()
            if section is not None
        }


def _plain(name: str, parts: Iterable[Part], given: Mapping[str, Any], faults: Faults) -> Section:
    """A section that configures these parts, with the defaults of their parameters."""
    parts = list(parts)
    keys = {key: entry for part in parts for key, entry in part.keys.items()}
    values = read_section(name, keys, given.get(name, {}), faults)
    for part in parts:
        part.judge(name, values, faults)
    return Section({key: entry.default for key, entry in keys.items() if entry.default is not NEEDED} | values)


def _defense(given: Mapping[str, Any], faults: Faults) -> Section:
    from certimetric.deep.defenses import DEFENSES

    kind = given.get("kind", DEFENSE)
    try:
        chosen("kind", kind, [*DEFENSES])
    except ArgumentError as error:
        faults.of("defense", "kind", error.sentence("kind", " in [defense]"))
        return Section({"kind": DEFENSE})
    others = {key: value for key, value in given.items() if key != "kind"}
    return Section({"kind": kind, **_plain("defense", [sections.defense(kind)], {"defense": others}, faults)})


def _model(given: Mapping[str, Any], faults: Faults) -> Section:
    part = sections.model()
    plain = part.keys
    options = {key: value for key, value in given.items() if key not in plain}
    found = _plain("model", [part], {"model": {key: given[key] for key in given if key in plain}}, faults)
    if faults.know("model", "name"):
        return found
    try:
        keys = sections.model_keys(found.name)
    except ValueError as error:
        faults.of("model", "name", f"name in [model]: {error}")
        return found
    if keys is not None:
        wanted = {**plain, **keys}
        said = read_section("model", wanted, {"name": found.name, **options}, faults, f" for {found.name!r}")
        options = {key: options[key] for key in said if key != "name"}
        if not faults.know("model"):
            try:
                sections.try_model(found.name, **options)
            except (ValueError, RuntimeError) as error:
                faults.of("model", "", f"[model]: {error}")
    return Section({key: value for key, value in {**found, **options}.items() if value is not None})


def _component(section: str, given: Mapping[str, Any], faults: Faults) -> Section:
    name = given.get("name")
    if not isinstance(name, str):
        faults.of(section, "name", f"[{section}] needs the key 'name'")
        return Section({"name": ""})
    try:
        made = sections.component_class(section, name)
    except ValueError as error:
        faults.of(section, "name", str(error))
        return Section(given)
    said = read_section(section, sections.component_keys(made), given, faults, f" for {name!r}")
    return Section({key: given[key] for key in said})


def _judge_together(config: TrainingConfig, faults: Faults) -> None:
    """Make loss and miner as far as nothing is known to be wrong about them, and see what does not go together."""
    from certimetric.deep.defenses import DEFENSES

    kind = config.defense.kind
    defense, mined = DEFENSES[kind], config.miner is not None
    if config.loss.name == CERTIFIED and (mined or defense.mines):
        faults.append(f"the loss {CERTIFIED!r} takes all triplets: no miner, and no defense that mines")
    if config.training.eps_warmup and not defense.has_radius:
        faults.append(f"eps_warmup in [training] must be 0 under the defense {kind!r}, which has no radius")
    for section in ("loss", "miner"):
        said = getattr(config, section)
        if said is not None and not faults.know(section):
            try:
                made = sections.make_component(section, said, config.model.dim, _CLASSES)
                if section == "loss":
                    defense.check(made, f"the defense {kind!r}", mined)
            except (TypeError, ValueError) as error:
                faults.append(str(error))


def _look_around(config: TrainingConfig, faults: Faults) -> None:
    """What is named and not here: data sets that are not known, and runs."""
    if not faults.know("data", "name"):
        name = config.data.name
        if not (name in IMAGE_SETS or name.endswith(".npz") or (config.data.root is None and Path(name).is_dir())):
            hint = did_you_mean(name, IMAGE_SETS)
            faults.append(
                f"name in [data] must be an image set, a folder or an .npz file, got {name!r}{hint}; "
                f"known sets are {', '.join(IMAGE_SETS)}"
            )
    for source in config.defense.get("sources", ()):
        if not (Path(source) / RUN_FILE).is_file():
            faults.append(f"sources in [defense] must be folders of runs, got {source!r}")
