"""Models that are no Module: functions of torch code, and of anything else where no gradient is asked for."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from torch import nn  # noqa: E402

from certimetric.auditing import audit_retrieval  # noqa: E402
from certimetric.deep import (  # noqa: E402
    APGD,
    FGSM,
    PGD,
    CarliniWagner,
    ImageSet,
    LinfBall,
    NESAttack,
    SquareAttack,
    certify_retrieval,
    embed,
    empirical_robustness_score,
    evaluate_retrieval,
)

BALL = LinfBall(0.1)


@pytest.fixture
def items(digits):
    return ImageSet(digits[0][:60], digits[1][:60])


def as_arrays(images):
    return images.cpu().numpy().reshape(len(images), -1)


def test_functions_are_evaluated_and_attacked_as_modules_are(items):
    attacks = [PGD(BALL, steps=3), SquareAttack(BALL, queries=10)]
    expected = evaluate_retrieval(nn.Flatten(), items, attacks=attacks, with_pixels=False)
    found = evaluate_retrieval(lambda images: images.flatten(1), items, attacks=attacks, with_pixels=False)
    assert found.rows == expected.rows
    score = empirical_robustness_score(lambda images: images.flatten(1), items, attack=SquareAttack(BALL, queries=3))
    assert score.score["mean"] > 0


def test_functions_without_gradients_are_attacked_by_their_values(items):
    attacks = [SquareAttack(BALL, queries=20), NESAttack(BALL, steps=2, population=4)]
    expected = evaluate_retrieval(nn.Flatten(), items, attacks=attacks, with_pixels=False)
    for function in (as_arrays, lambda images: torch.from_numpy(as_arrays(images)), lambda x: x.detach().flatten(1)):
        assert evaluate_retrieval(function, items, attacks=attacks, with_pixels=False).rows == expected.rows
        for attack in (PGD, FGSM, APGD, CarliniWagner):
            with pytest.raises(
                TypeError, match=r"no gradients: give a Module .* or use SquareAttack or NESAttack"
            ) as told:
                evaluate_retrieval(function, items, attacks=[attack(BALL)], with_pixels=False)
            assert "\n" not in str(told.value)
    # A surrogate has the gradients that the model lacks.
    transferred = evaluate_retrieval(
        as_arrays, items, attacks=[PGD(BALL, steps=3)], surrogate=nn.Flatten(), with_pixels=False
    )
    assert transferred.to_frame().recall_at_1.iloc[1] < transferred.to_frame().recall_at_1.iloc[0]


def test_the_module_of_a_method_is_known(items, network):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def encode(self, images):
            return self.network(images)

    encoder = Encoder().train()  # dropout must be off
    torch.testing.assert_close(embed(encoder.encode, items.images), embed(network.eval(), items.images))
    assert encoder.training


@pytest.mark.parametrize("function", [as_arrays, lambda images: images.flatten(1)])
def test_functions_are_certified_by_what_they_give(items, function):
    for statistic in ("vote", "embedding"):
        options = {"method": "smoothing", "sigma": 0.5, "statistic": statistic, "n_samples": 40, "with_pixels": False}
        expected = certify_retrieval(nn.Flatten(), items, **options)
        found = certify_retrieval(function, items, **options)
        assert found.radii.tolist() == expected.radii.tolist()
        assert found.predictions.tolist() == expected.predictions.tolist()
    for method in ("lipschitz", "interval"):
        with pytest.raises(ValueError, match="Module only, got function; smoothing certifies any callable"):
            certify_retrieval(function, items, method=method)


@pytest.mark.usefixtures("light_search")
def test_functions_are_audited(items):
    options = {"eps": [0.1], "attacks": ["square"], "n_checked": 4, "n_queries": 8}
    module, function = (audit_retrieval({"m": model}, items, **options).document for model in (nn.Flatten(), as_arrays))
    (expected, _), (found, _) = module["learners"], function["learners"]
    assert (found["clean"], found["attacked"]) == (expected["clean"], expected["attacked"])
    told = {entry["code"]: entry for entry in function["checks"] if entry["learner"] == "m"}
    assert {code for code, entry in told.items() if "without gradients" in entry["message"]} == {
        "CR101",
        "CR102",
        "CR104",
    }
    assert told["CR101"]["severity"] == "not applicable" and told["CR106"]["severity"] == "passed"
    with pytest.raises(ValueError, match="must be of square, nes, pixels, got 'pgd': the model 'm' has no gradients"):
        audit_retrieval({"m": as_arrays}, items, eps=[0.1], n_checked=0)


def test_what_cannot_be_called_is_named(items):
    for use in (
        lambda: embed("resnet", items.images),
        lambda: evaluate_retrieval(None, items),
        lambda: certify_retrieval("resnet", items, method="smoothing"),
        lambda: certify_retrieval("resnet", items),
    ):
        with pytest.raises(TypeError, match="model must be a Module or a callable that embeds images, got"):
            use()


def test_other_errors_of_a_function_are_its_own(items):
    def broken(images):
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        embed(broken, items.images)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-6), (torch.bfloat16, 3e-2)])
def test_models_in_other_precisions_are_given_pictures_in_theirs(items, network, dtype, close):
    plain = embed(network.eval(), items.images)
    network.to(dtype)
    torch.testing.assert_close(embed(network, items.images).float(), plain, rtol=close, atol=close)
    found = evaluate_retrieval(network, items, attacks=[PGD(BALL, steps=3)], with_pixels=False).to_frame()
    assert found.recall_at_1[1] < found.recall_at_1[0]
