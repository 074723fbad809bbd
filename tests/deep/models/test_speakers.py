"""Waveforms under attack: the speaker encoder whose weights come with resemblyzer, where that is installed."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra 'deep' has it")

from scipy.signal import lfilter  # noqa: E402
from torch import nn  # noqa: E402

from certimetric.deep import PGD, LinfBall, Samples, evaluate_retrieval  # noqa: E402
from certimetric.deep.models.sources import load_weights  # noqa: E402

RATE, WINDOW, HOP, MELS = 16_000, 400, 160, 40


def mel_filters():
    """Triangles on Slaney's scale, linear below 1 kHz and logarithmic above, of equal area: (40, 201)."""
    corner, growth = 15.0, np.log(6.4) / 27
    marks = np.linspace(0.0, corner + np.log(RATE / 2000) / growth, MELS + 2)
    edges = np.where(marks < corner, 200 / 3 * marks, 1000 * np.exp(growth * (marks - corner)))
    bins, widths = np.linspace(0, RATE / 2, WINDOW // 2 + 1), np.diff(edges)[:, None]
    rising, falling = (bins - edges[:-2, None]) / widths[:-1], (edges[2:, None] - bins) / widths[1:]
    area = (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.tensor(area * np.clip(np.minimum(rising, falling), 0, None)).float()


class Encoder(nn.Module):
    """From waveforms (b, 1, t) to unit vectors (b, 256); the spectrogram is inside, so that ε means the waveform."""

    def __init__(self):
        super().__init__()
        self.lstm, self.linear = nn.LSTM(MELS, 256, 3, batch_first=True), nn.Linear(256, 256)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, waves):
        told = {"hop_length": HOP, "window": self.window, "pad_mode": "constant", "return_complex": True}
        power = torch.stft(waves[:, 0], WINDOW, **told).abs().pow(2)
        hidden = self.lstm((self.filters @ power).mT)[1][0]
        return nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=1)


def voice(pitch, formants, rng):
    """Pulses through three resonances, with a pitch that wanders."""
    n = RATE // 2
    phase = np.cumsum(pitch * (1 + 0.02 * rng.standard_normal(8).repeat(n // 8)) / RATE)
    sound = np.diff(np.floor(phase), prepend=0.0)
    for formant in formants:
        radius, angle = 0.97, 2 * np.pi * formant * (1 + 0.03 * rng.standard_normal()) / RATE
        sound = lfilter([1.0], [1.0, -2 * radius * np.cos(angle), radius**2], sound)
    return 0.3 * sound / np.abs(sound).max()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("resemblyzer") is None, reason="resemblyzer is not installed")
def test_a_speaker_encoder_is_attacked_through_its_spectrogram():
    encoder = Encoder().eval()
    weights = Path(find_spec("resemblyzer").origin).parent / "pretrained.pt"
    load_weights(encoder, str(weights), ("similarity_weight", "similarity_bias"))
    rng = np.random.default_rng(0)
    speakers = {"low": (95, (600, 1000, 2400)), "middle": (140, (400, 1900, 2550)), "high": (220, (750, 1250, 2900))}
    waves = np.stack([voice(*speakers[name], rng) for name in speakers for _ in range(4)])
    items = Samples(waves[:, None].astype(np.float32), [name for name in speakers for _ in range(4)], bounds=(-1, 1))
    attacks = [PGD(LinfBall(eps, bounds=items.bounds), steps=5) for eps in (1e-5, 0.01)]
    clean, small, large = evaluate_retrieval(encoder, items, attacks=attacks, with_pixels=False, with_nmi=False).rows
    assert clean["recall_at_1"] == 1.0
    assert large["recall_at_1"] < small["recall_at_1"]
