"""Fine-tuning: parts that stay, rates of their own, warm-up, updates of several batches, short gradients."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")
pytest.importorskip("lightning")

from pytorch_metric_learning.losses import ProxyAnchorLoss, TripletMarginLoss  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.base.arguments import ArgumentError  # noqa: E402
from certimetric.deep import FreeDefense, LinfBall, RobustTrainer, Samples, embed  # noqa: E402
from certimetric.deep.attacks import PGD  # noqa: E402
from certimetric.deep.defenses import BatchDefense, EmbeddingShiftDefense  # noqa: E402
from certimetric.deep.train import optimizer_of, scheduler_of  # noqa: E402

SGD = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.5), "accelerator": "cpu", "max_epochs": 1}


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 8), nn.Linear(8, 4)
    return nn.Sequential(*layers)


def batches(digits, n=2):
    images, labels = digits
    return [(images[i * 20 : (i + 1) * 20], labels[i * 20 : (i + 1) * 20]) for i in range(n)]


def moved(before, after):
    return {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_frozen_parts_stay_with_their_statistics(digits):
    model = network()
    before = state(model)
    RobustTrainer(model, TripletMarginLoss(), freeze=["model.0", "model.1"], **SGD).fit(batches(digits))
    assert moved(before, model) == {"3.weight", "3.bias", "4.weight", "4.bias"}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parts_have_rates_of_their_own(digits):
    model, loss = network(), ProxyAnchorLoss(10, 4)
    seen = []

    def optimizer(groups):
        seen.extend(groups)
        return optimizer_of("sgd", 0.5)(groups)

    rates = {"model": 0.1, "model.4": 0.2, "loss": 3.0}
    RobustTrainer(model, loss, learning_rates=rates, **{**SGD, "optimizer": optimizer}).fit(batches(digits, 1))
    told = {group["lr"]: sum(parameter.numel() for parameter in group["params"]) for group in seen}
    assert told == {0.1: 4 * 9 + 4 + 8 + 144 * 8 + 8, 0.2: 36, 3.0: 40}


def test_a_rate_of_its_own_does_what_it_says(digits):
    steps = []
    for rate in (0.1, 0.3):
        model = network()
        before = state(model)
        RobustTrainer(model, TripletMarginLoss(), learning_rates={"model.4": rate}, **SGD).fit(batches(digits, 1))
        steps.append(model.state_dict()["4.weight"] - before["4.weight"])
    assert torch.allclose(3 * steps[0], steps[1], atol=1e-6)


def test_an_update_of_several_batches_is_along_their_mean_gradient(digits):
    """Of three batches in pairs the last is an update of its own."""

    def loss(embeddings, labels, indices_tuple=None):
        return embeddings.pow(2).mean()

    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    start = state(layers)
    RobustTrainer(layers, loss, accumulate=2, **SGD).fit(batches(digits, 3))
    after = state(layers)
    layers.load_state_dict(start)
    (a, labels), (b, others), last = batches(digits, 3)
    both = torch.cat([a, b]), torch.cat([labels, others])
    RobustTrainer(layers, loss, **SGD).fit([both, last])
    assert all(torch.allclose(value, after[name], atol=1e-6) for name, value in layers.state_dict().items())


def test_long_gradients_are_shortened(digits):
    model = network()
    before = state(model)
    RobustTrainer(model, TripletMarginLoss(5.0), clip_norm=0.01, **SGD).fit(batches(digits, 1))
    steps = [value - before[name] for name, value in model.named_parameters()]
    assert float(torch.cat([step.detach().flatten() for step in steps]).norm()) == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_warmup_leads_into_the_schedule(digits, tmp_path):
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.4)
    scheduler, rates = scheduler_of("cosine", 7, warmup=3)(optimizer), []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates == sorted(rates[:4]) + sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    with pytest.raises(ArgumentError, match="warmup must be at least 0 and less than the epochs, got 7"):
        scheduler_of("constant", 7, warmup=7)


def test_what_is_interrupted_in_the_warmup_goes_on(digits, tmp_path):
    told = {"learning_rates": {"model.4": 0.2}, "freeze": ["model.0"], "accumulate": 2, "accelerator": "cpu"}

    def trained(epochs, folder, model, **how):
        trainer = RobustTrainer(
            model, TripletMarginLoss(), scheduler=scheduler_of("cosine", 4, 2), max_epochs=epochs,
            checkpoint_dir=folder, **told,
        )  # fmt: skip
        return trainer.fit(batches(digits), **how).model.state_dict()

    whole = trained(4, tmp_path / "a", network())
    trained(1, tmp_path / "b", network())
    resumed = trained(4, tmp_path / "b", network(), resume=True)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"freeze": ["model.9"]}, "freeze must name parts with parameters"),
        ({"freeze": ["modle.3"]}, r"freeze must name parts .*did you mean 'model\.3'"),
        ({"learning_rates": {"head": 0.1}}, "learning_rates must name parts with parameters"),
        ({"freeze": ["model"]}, "freeze must leave something to be trained"),
    ],
)
def test_names_that_are_not_there_are_told(digits, options, named):
    with pytest.raises(ArgumentError, match=named):
        RobustTrainer(network(), TripletMarginLoss(), **SGD, **options).fit(batches(digits, 1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"learning_rates": {"model": 0.0}}, "learning_rates must be positive"),
        (
            {"accumulate": 2, "defense": FreeDefense(LinfBall(0.1), 2)},
            "accumulate must be 1 where batches are replayed",
        ),
    ],
)
def test_numbers_are_checked(options, named):
    with pytest.raises(ArgumentError, match=named):
        RobustTrainer(network(), TripletMarginLoss(), **options)


@pytest.mark.parametrize("kind", [BatchDefense, EmbeddingShiftDefense])
def test_what_is_no_picture_is_trained_within_its_bounds(kind):
    torch.manual_seed(0)
    series = Samples(2 * torch.rand(20, 1, 16) - 1, torch.arange(20) % 4, bounds=(-1, 1))
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(56, 4))
    defense = kind(PGD(LinfBall(0.1, bounds=series.bounds), steps=2))
    trainer = RobustTrainer(model, TripletMarginLoss(), defense=defense, kind=series.kind, **SGD)
    trainer.fit([(series.inputs, series.labels)])
    assert embed(model, series.inputs, kind=series.kind).shape == (20, 4)
    with pytest.raises(ValueError, match="inputs must have values from -1 to 1, got -1"):
        trainer.fit([(series.inputs - 1, series.labels)])
    with pytest.raises(ValueError, match="images must be a tensor of shape"):
        RobustTrainer(model, TripletMarginLoss(), **SGD).fit([(series.inputs, series.labels)])
