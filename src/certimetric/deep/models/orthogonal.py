"""Layers that stretch no difference, and hardly shrink one: orthogonal maps, residuals, sorting, pooling by norms.

They are written here and not taken from a package: a certificate rests on them, each is a few lines, and their weights
are those of torch's own layers, so that :func:`certimetric.deep.lipschitz_constant` reads the weights that are used,
checkpoints are those of any module, and nothing has to be believed of how they came about.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ITERATIONS = 15  # of Björck: the singular values of matrices in training are then 1 up to single precision


def bjorck(matrix: Tensor, iterations: int = _ITERATIONS) -> Tensor:
    """The nearest matrix (…, m, n) with orthonormal rows, or columns where m > n, by Björck's iteration.

    ``W ← W (3I − WᵀW) / 2`` takes every singular value to 1 (Björck & Bowie, 1971; in networks, Anil et al., arXiv
    1811.05381). All steps are polynomials of one Gram matrix, and so are multiplied together before they meet W.

    Examples
    --------
    >>> rows = bjorck(torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]]))
    >>> torch.allclose(rows @ rows.T, torch.eye(2), atol=1e-5)
    True
    """
    if matrix.shape[-2] > matrix.shape[-1]:
        return bjorck(matrix.mT, iterations).mT
    gram = matrix @ matrix.mT
    size = gram.abs().sum(dim=-1).amax(dim=-1)[..., None, None]  # bounds the largest eigenvalue
    size = torch.where(size > 0, size, 1.0)
    product = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # What the Gram matrix lacks of the identity goes to 0 at once; of the matrix itself, entries beside the diagonal
    # shrink by rounding alone, to numbers so small that a step takes several times as long.
    rest = product - gram / size
    for _ in range(iterations):
        product = product + 0.5 * rest @ product
        square = rest @ rest
        rest = 0.75 * square + 0.25 * square @ rest
    return product @ matrix / size.sqrt()


class OrthogonalMatrix(nn.Module):
    """Parametrisation of the weight of a linear layer by orthonormal rows, or columns where it widens."""

    def forward(self, weight: Tensor) -> Tensor:
        return bjorck(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.nn.init.orthogonal_(torch.empty_like(weight))


class OrthogonalKernel(nn.Module):
    """Parametrisation of the kernel of a convolution with stride 1 that keeps lengths, but for what leaves the border.

    An orthogonal matrix across channels is followed, k − 1 times in each direction, by a convolution ``[P, I − P]``
    over two pixels with a symmetric projector P of half the rank: each is orthogonal (block convolution orthogonal
    parametrisation, Li et al., arXiv 1911.00937).
    """

    def __init__(self, out_channels: int, in_channels: int, size: int):
        super().__init__()
        self.shape = (out_channels, in_channels)
        self.n_blocks = 2 * (size - 1)

    def forward(self, across: Tensor, halves: Tensor) -> Tensor:
        out_channels, in_channels = self.shape
        widens = out_channels >= in_channels
        matrix = bjorck(across)
        c = max(self.shape)
        kernel = (matrix if widens else torch.eye(c, dtype=across.dtype, device=across.device))[:, :, None, None]
        if self.n_blocks:
            bases = bjorck(halves)
            for i, projector in enumerate(bases @ bases.mT):
                one = torch.einsum("ab,bchw->achw", projector, kernel)
                other = kernel - one
                ends = ((0, 1), (1, 0)) if i % 2 == 0 else ((0, 0, 0, 1), (0, 0, 1, 0))
                kernel = nn.functional.pad(one, ends[0]) + nn.functional.pad(other, ends[1])
        return kernel if widens else torch.einsum("ab,bchw->achw", matrix, kernel)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        c = max(self.shape)
        across = torch.nn.init.orthogonal_(weight.new_empty(self.shape))
        halves = weight.new_empty((self.n_blocks, c, max(c // 2, 1)))
        for half in halves:
            torch.nn.init.orthogonal_(half)
        return across, halves


def orthogonal_linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """A linear layer whose weight has orthonormal rows, or columns where it widens."""
    layer = nn.Linear(in_features, out_features, bias)
    parametrize.register_parametrization(layer, "weight", OrthogonalMatrix())
    return layer


def orthogonal_convolution(in_channels: int, out_channels: int, size: int = 3, bias: bool = True) -> nn.Conv2d:
    """A convolution with stride 1, with zeros around the picture, whose kernel is orthogonal.

    Examples
    --------
    >>> layer = orthogonal_convolution(2, 4)
    >>> x = nn.functional.pad(torch.rand(1, 2, 4, 4), (2, 2, 2, 2))
    >>> bool((layer(x) - layer.bias[:, None, None]).norm() - x.norm() < 1e-4)
    True
    """
    layer = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=bias)
    parametrize.register_parametrization(layer, "weight", OrthogonalKernel(out_channels, in_channels, size))
    return layer


class ContractionKernel(nn.Module):
    """Parametrisation of the kernel (h, c, k, k) of a convolution by one whose norm is at most 1.

    Row i is divided by the root of ``Σ_j |K Kᵀ|_ij q_j / q_i``, with the absolute values summed over places and weights
    q > 0 that are learned by their logarithms: scaled diagonal dominance bounds ``K Kᵀ`` (arXiv 2303.03169, theorem 3).
    """

    def forward(self, kernel: Tensor, log_weights: Tensor) -> Tensor:
        reach = kernel.shape[-1] - 1
        products = nn.functional.conv2d(kernel, kernel, padding=reach).abs().sum(dim=(2, 3))
        rows = products @ log_weights.exp() / log_weights.exp()
        return kernel / rows.clamp_min(torch.finfo(rows.dtype).tiny).sqrt()[:, None, None, None]

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return weight, weight.new_zeros(len(weight))


class ResidualConv2d(nn.Conv2d):
    """``x − 2 Wᵀ relu(W x + b)`` with a convolution W of stride 1, and zeros around the picture.

    It is a step down a convex potential: where the norm of W is at most 1, no difference is stretched. Channels, height
    and width are kept; ``hidden`` is the number of channels of ``W x``.

    References
    ----------
    Meunier et al., *A dynamical system perspective for Lipschitz neural networks*, arXiv 2110.12690
    [meunier2021dynamical]; with kernels as :func:`residual_convolution` has them, Araujo et al., *A unified algebraic
    perspective on Lipschitz neural networks*, arXiv 2303.03169 [araujo2023unified].

    Examples
    --------
    >>> layer = ResidualConv2d(1, 1, 1)
    >>> _ = layer.weight.data.fill_(1.0), layer.bias.data.fill_(0.0)
    >>> layer(torch.tensor([[[[2.0, -3.0]]]]))
    tensor([[[[-2., -3.]]]], grad_fn=<SubBackward0>)
    """

    def __init__(self, channels: int, hidden: int, size: int = 3):
        super().__init__(channels, hidden, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = super().forward(x).relu()
        return x - 2.0 * nn.functional.conv_transpose2d(hidden, self.weight, padding=self.padding)  # type: ignore[arg-type]


def residual_convolution(channels: int, hidden: int, size: int = 3) -> ResidualConv2d:
    """A residual layer whose kernel has at most norm 1, an odd ``size`` and trained weights of its channels.

    Examples
    --------
    >>> layer, (x, z) = residual_convolution(2, 8), torch.randn(2, 1, 2, 6, 6)
    >>> bool((layer(x) - layer(z)).norm() <= (1 + 1e-6) * (x - z).norm())
    True
    """
    layer = ResidualConv2d(channels, hidden, size)
    parametrize.register_parametrization(layer, "weight", ContractionKernel())
    return layer


class GroupSort(nn.Module):
    """Sort pairs of channels: all larger ones first, then all smaller ones. Lengths are kept, and so are gradients.

    References
    ----------
    Anil et al., *Sorting out Lipschitz function approximation*, arXiv 1811.05381 [anil2018sorting].

    Examples
    --------
    >>> GroupSort()(torch.tensor([[1.0, 2.0, 4.0, 3.0]]))
    tensor([[2., 4., 1., 3.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % 2:
            raise ValueError(f"GroupSort sorts pairs of channels: their number must be even, got {x.shape[1]}")
        one, other = x.unflatten(1, (-1, 2)).unbind(2)
        swap = one < other  # a choice has cheaper gradients than a maximum and a minimum
        return torch.cat([torch.where(swap, other, one), torch.where(swap, one, other)], dim=1)


class NormPool2d(nn.Module):
    """The Euclidean norm of every block of size × size pixels and a constant: differences do not grow.

    What a block is cut short by at the border is filled up with zeros. An ``offset`` c, which is 0 by default, rounds
    the corner that a norm has at 0: of a block y it gives ``√(c² + ‖y‖²)``. How far this bends is known, see
    :mod:`certimetric.deep.certify.slopes`.

    Examples
    --------
    >>> block = torch.tensor([[[[3.0, 0.0], [4.0, 0.0]]]])
    >>> NormPool2d(2)(block), NormPool2d(2, offset=12.0)(block)
    (tensor([[[[5.]]]]), tensor([[[[13.]]]]))
    """

    def __init__(self, size: int = 2, offset: float = 0.0):
        super().__init__()
        if offset < 0:
            raise ValueError(f"offset of NormPool2d must not be negative, got {offset}")
        self.size, self.offset = size, float(offset)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = nn.functional.pad(x, (0, -width % self.size, 0, -height % self.size))
        squares = self.size**2 * nn.functional.avg_pool2d(x * x, self.size)
        # The root has no gradient at 0, where a block is empty. Lengths are kept on the way here, so that blocks are of
        # the size of pixels, from 0 to 1: none that matters is cut at 1e-12.
        return (squares + self.offset**2).clamp_min(1e-24).sqrt()

    def spread(self, blocks: Tensor, picture: Tensor) -> Tensor:
        """The value of every block (…, p, q) at each of its pixels in a picture (…, h, w)."""
        height, width = picture.shape[-2:]
        return blocks.repeat_interleave(self.size, -2).repeat_interleave(self.size, -1)[..., :height, :width]

    def extra_repr(self) -> str:
        return f"size={self.size}, offset={self.offset:g}"


class UnitBall(nn.Module):
    """Scale embeddings (b, k), and shorten those that are then longer than 1 to length 1.

    Unlike scaling all of them to length 1, which stretches without bound near 0, it stretches by no more than
    ``scale``.

    Examples
    --------
    >>> UnitBall(2.0)(torch.tensor([[0.0, 0.25], [3.0, 4.0]]))
    tensor([[0.0000, 0.5000],
            [0.6000, 0.8000]])
    """

    def __init__(self, scale: float = 1.0):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale of UnitBall must be positive, got {scale}")
        self.scale = float(scale)

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale * x
        return x / x.norm(dim=1, keepdim=True).clamp_min(1.0)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"
