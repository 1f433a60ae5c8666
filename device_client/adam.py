"""Adam over one flat vector, in numpy (Kingma and Ba, arXiv:1412.6980)."""

from typing import Final

import numpy as np

from shared_models.contract.manifest import LearningSpec
from shared_models.contract.tensors import Float32Array

_VECTORS: Final = 3


class Adam:
    """Values that are trained, and the moments of their gradients: all that learning keeps.

    Args:
        values: float32 (P,), where to start; not changed.

    Attributes:
        values: float32 (P,); a step replaces the array and never writes into it.
        steps: taken so far.
    """

    __slots__ = ("_mean", "_variance", "steps", "values")

    def __init__(self, values: Float32Array) -> None:
        self.values, self.steps = values, 0
        self._mean, self._variance = np.zeros_like(values), np.zeros_like(values)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return _VECTORS * self.values.nbytes

    def step(self, gradient: Float32Array, spec: LearningSpec) -> bool:
        """One step down ``gradient``, as `torch.optim.Adam` takes it.

        Args:
            gradient: float32 (P,); used up.
            spec: the rates.

        Returns:
            False where the gradient or its square is not finite: everything stays as it was.
        """
        with np.errstate(over="ignore"):
            if not np.isfinite(gradient @ gradient):
                return False
        self.steps += 1
        # Python's floats: in float32 the corrections alone would be wrong in the fifth digit.
        correction = 1 - spec.beta1**self.steps
        root = (1 - spec.beta2**self.steps) ** 0.5
        # In place: fresh memory for each of these would cost as much as computing them.
        scratch = gradient - self._mean
        scratch *= 1 - spec.beta1
        self._mean += scratch
        self._variance *= spec.beta2
        np.multiply(gradient, 1 - spec.beta2, out=scratch)
        scratch *= gradient
        self._variance += scratch
        np.sqrt(self._variance, out=scratch)
        scratch /= root
        scratch += spec.epsilon
        np.multiply(self._mean, spec.rate / correction, out=gradient)
        gradient /= scratch
        self.values = self.values - gradient
        return True
