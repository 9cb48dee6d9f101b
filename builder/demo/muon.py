"""The Muon optimizer in 32-bit floats, for CPUs on which bfloat16 is slow.

Each update of a matrix is its momentum with all singular values brought near one (Jordan et al., 2024); here by five
steps of the Newton-Schulz iteration, on matrices of one shape at a time.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

COEFFICIENTS = 3.4445, -4.7750, 2.0315


def orthogonal(matrices: Tensor) -> Tensor:
    """Approximately the nearest (semi-)orthogonal matrix, for a stack (n, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x


class Muon:
    """Momentum 0.95 with Nesterov's look-ahead; the step is scaled to the size that AdamW's has."""

    def __init__(self, parameters: Iterable[Parameter], rate: float, decay: float = 0.05) -> None:
        self.rate, self.decay = rate, decay
        shapes: dict[torch.Size, list[Parameter]] = {}
        for parameter in parameters:
            shapes.setdefault(parameter.shape, []).append(parameter)
        self.groups = [(group, torch.zeros(len(group), *group[0].shape)) for group in shapes.values()]

    @torch.no_grad()
    def step(self) -> None:
        for parameters, momentum in self.groups:
            grads = torch.stack([p.grad for p in parameters if p.grad is not None])
            momentum.lerp_(grads, 0.05)
            update = orthogonal(grads.lerp_(momentum, 0.95)) * (0.2 * max(momentum.shape[1:]) ** 0.5)
            for parameter, change in zip(parameters, update, strict=True):
                parameter.mul_(1 - self.rate * self.decay).add_(change, alpha=-self.rate)
                parameter.grad = None
