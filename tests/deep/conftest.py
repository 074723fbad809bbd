"""Small real images and a small network, for tests that need torch."""

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from sklearn.datasets import load_digits  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture(scope="session")
def digits():
    """400 digits, 8 × 8, as (images in [0, 1], labels)."""
    X, y = load_digits(return_X_y=True)
    return torch.tensor(X[:400] / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y[:400])


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(128, 16),
    )


@pytest.fixture
def network():
    return small_network()
