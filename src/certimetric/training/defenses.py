"""``[defense]`` of a training run: the keys of each kind, what is wrong with values, and the defense that they make."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import nn

    from certimetric.deep.attacks.balls import Ball
    from certimetric.deep.attacks.base import Attack
    from certimetric.deep.defenses import Defense


@dataclass(frozen=True)
class DefenseSection:
    """``[defense]``; each subclass is a kind, its keys are the fields."""

    compares_samples: ClassVar[bool] = False  # and has no place for losses with parameters of their own

    def make(self) -> Defense:
        """The defense."""
        raise NotImplementedError

    def faults(self, known: Collection[str] = ()) -> list[str]:
        """What is wrong about values that are of the right type, by the limits of their names, but for known keys."""
        return [
            f"{key} in [defense] must {words}, got {getattr(self, key):g}"
            for key, (holds, words) in _LIMITS.items()
            if key not in known and getattr(self, key, None) is not None and not holds(getattr(self, key))
        ]


_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "attack_rate": (lambda value: 0 <= value <= 1, "lie between 0 and 1"),
    **dict.fromkeys(("eps", "weight", "structure"), (lambda value: value >= 0, "not be negative")),
    **dict.fromkeys(
        ("step_size", "radius", "margin", "temperature", "sigma", "sharpness"), (lambda value: value > 0, "be positive")
    ),
    **dict.fromkeys(
        ("steps", "restarts", "per_anchor", "points", "replays"), (lambda value: value >= 1, "be at least 1")
    ),
    "check_every": (lambda value: value >= 0, "not be negative"),
}


@dataclass(frozen=True)
class NoneSection(DefenseSection):
    """Natural training."""

    kind: Literal["none"] = "none"

    def make(self) -> Defense:
        from certimetric.deep import NoDefense

        return NoDefense()


@dataclass(frozen=True)
class BallSection(DefenseSection):
    """What the defenses that perturb images have in common."""

    norm: Literal["linf", "l2"] = "linf"
    eps: float = 0.01

    def ball(self) -> Ball:
        from certimetric.deep import L2Ball, LinfBall

        return (LinfBall if self.norm == "linf" else L2Ball)(self.eps)


@dataclass(frozen=True)
class AttackedSection(BallSection):
    """What the defenses with an attack of several steps have in common."""

    steps: int = 5
    step_size: float | None = None
    restarts: int = 1

    def attack(self) -> Attack:
        from certimetric.deep import PGD

        step = 2 * self.eps / self.steps if self.step_size is None else self.step_size
        return PGD(self.ball(), self.steps, step, self.restarts)


@dataclass(frozen=True)
class TupleSection(AttackedSection):
    """One role of each tuple is perturbed."""

    kind: Literal["tuple"] = "tuple"
    role: Literal["positive", "negative", "anchor"] = "positive"
    attack_rate: float = 1.0
    per_anchor: int = 1

    def make(self) -> Defense:
        from certimetric.deep import TupleDefense

        return TupleDefense(self.role, self.attack(), self.attack_rate, self.per_anchor)


@dataclass(frozen=True)
class BatchSection(AttackedSection):
    """The whole batch is perturbed jointly."""

    kind: Literal["batch"] = "batch"

    def make(self) -> Defense:
        from certimetric.deep import BatchDefense

        return BatchDefense(self.attack())


@dataclass(frozen=True)
class PerturbationSection(DefenseSection):
    """The perturbation loss on first-order margins."""

    kind: Literal["perturbation"] = "perturbation"
    radius: float = 0.03
    weight: float = 1.0
    norm: Literal["linf", "l2"] = "linf"
    per_anchor: int = 1

    def make(self) -> Defense:
        from certimetric.deep import PerturbationDefense

        return PerturbationDefense(self.radius, self.weight, self.norm, self.per_anchor)


@dataclass(frozen=True)
class NoiseSection(DefenseSection):
    """Gaussian noise, for a model that is to be smoothed."""

    kind: Literal["noise"] = "noise"
    sigma: float = 0.25

    def make(self) -> Defense:
        from certimetric.deep import NoiseDefense

        return NoiseDefense(self.sigma)


@dataclass(frozen=True)
class ShiftSection(AttackedSection):
    """EST: embeddings are shifted as far as possible."""

    kind: Literal["est"] = "est"

    def make(self) -> Defense:
        from certimetric.deep import EmbeddingShiftDefense

        return EmbeddingShiftDefense(self.attack())


@dataclass(frozen=True)
class ShiftPenaltySection(AttackedSection):
    """SES: the shift of embeddings beside the clean loss."""

    kind: Literal["ses"] = "ses"
    weight: float = 1.0

    def make(self) -> Defense:
        from certimetric.deep import ShiftPenaltyDefense

        return ShiftPenaltyDefense(self.attack(), self.weight)


@dataclass(frozen=True)
class TradesSection(AttackedSection):
    """The divergence of neighbours beside the clean loss."""

    kind: Literal["trades"] = "trades"
    weight: float = 1.0
    temperature: float = 0.2

    def make(self) -> Defense:
        from certimetric.deep import TradesDefense

        return TradesDefense(self.attack(), self.weight, self.temperature)


@dataclass(frozen=True)
class AntiCollapseSection(AttackedSection):
    """ACT: positive and negative of each triplet are brought together."""

    compares_samples = True
    kind: Literal["act"] = "act"
    per_anchor: int = 1

    def make(self) -> Defense:
        from certimetric.deep import AntiCollapseDefense

        return AntiCollapseDefense(self.attack(), self.per_anchor)


@dataclass(frozen=True)
class HardnessSection(AttackedSection):
    """HM: triplets are made as hard as wanted."""

    compares_samples = True
    kind: Literal["hm"] = "hm"
    destination: Literal["gradual", "semihard", "constant"] = "gradual"
    level: float = 0.0
    margin: float = 0.2
    structure: float = 0.5
    per_anchor: int = 1

    def make(self) -> Defense:
        from certimetric.deep import HardnessDefense

        return HardnessDefense(
            self.attack(), self.destination, self.level, self.margin, self.structure, self.per_anchor
        )


@dataclass(frozen=True)
class DecoupledSection(AttackedSection):
    """Anchors are perturbed, or positives and negatives, in turn."""

    compares_samples = True
    kind: Literal["decoupled"] = "decoupled"
    sharpness: float = 2.0
    per_anchor: int = 1

    def make(self) -> Defense:
        from certimetric.deep import DecoupledDefense

        return DecoupledDefense(self.attack(), self.sharpness, self.per_anchor)


@dataclass(frozen=True)
class EnsembleSection(AttackedSection):
    """Batches are perturbed by gradients of other models, too: those of finished runs."""

    compares_samples = True
    kind: Literal["ensemble"] = "ensemble"
    sources: tuple[str, ...] = ()

    def faults(self, known: Collection[str] = ()) -> list[str]:
        needed = [] if self.sources or "sources" in known else ["[defense] needs sources, folders of finished runs"]
        return super().faults(known) + needed

    def make(self) -> Defense:
        from certimetric.training.run import load_run

        return self.make_from([load_run(folder)[0] for folder in self.sources])

    def make_from(self, sources: Sequence[nn.Module]) -> Defense:
        """The defense with these models."""
        from certimetric.deep import EnsembleDefense

        return EnsembleDefense(sources, self.attack())


@dataclass(frozen=True)
class SingleStepSection(BallSection):
    """One guarded step."""

    kind: Literal["single-step"] = "single-step"
    points: int = 2
    check_every: int = 50

    def make(self) -> Defense:
        from certimetric.deep import SingleStepDefense

        return SingleStepDefense(self.ball(), self.points, self.check_every)


@dataclass(frozen=True)
class FreeSection(BallSection):
    """The gradient of the update perturbs the next pass over the batch."""

    kind: Literal["free"] = "free"
    replays: int = 4

    def make(self) -> Defense:
        from certimetric.deep import FreeDefense

        return FreeDefense(self.ball(), self.replays)


DEFENSES: dict[str, type[DefenseSection]] = {
    "none": NoneSection,
    "tuple": TupleSection,
    "batch": BatchSection,
    "perturbation": PerturbationSection,
    "noise": NoiseSection,
    "est": ShiftSection,
    "ses": ShiftPenaltySection,
    "act": AntiCollapseSection,
    "hm": HardnessSection,
    "decoupled": DecoupledSection,
    "trades": TradesSection,
    "ensemble": EnsembleSection,
    "single-step": SingleStepSection,
    "free": FreeSection,
}
