"""The activation functions. An entry is: the two formulas, the cases worth checking, and the function for users.

derivation.md says where the formulas come from; activations.cu has them for a GPU. To add an activation, add an entry.
"""

from __future__ import annotations

from ...engine.tensor import Tensor
from .._shared.checks import positive
from .._shared.formulas import ONE, SIX, exp_of_nonpositive, expm1_of_nonpositive, log1p_of_unit, where
from .._shared.formulas import tanh as tanh_of
from .op import ACTIVATIONS, Activation

__all__ = ["ACTIVATIONS", "elu", "leaky_relu", "relu", "relu6", "sigmoid", "softplus", "tanh"]


class Elu(Activation, op="elu"):
    parameters = ({"alpha": 1.0}, {"alpha": 0.3})
    kinks = (0.0,)  # unless alpha is 1

    @staticmethod
    def value(x, alpha):
        return where(x > 0, x, alpha * expm1_of_nonpositive(where(x > 0, 0, x)))

    @staticmethod
    def gradient(gy, y, alpha):
        return gy * where(y > 0, ONE, y + alpha)


def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """Exponential linear unit: x where x > 0, else alpha (exp(x) - 1).

    x: float, any shape; alpha > 0. Returns the same shape and dtype. Raises TypeError for integers and
    ValueError for alpha <= 0. Source: Clevert et al., ICLR 2016, section 3.
    """
    return Elu.of(x, alpha=positive("elu", "alpha", alpha))


class Relu(Activation, op="relu"):
    kinks = (0.0,)

    @staticmethod
    def value(x):
        return where(x <= 0, 0, x)  # not where(x > 0, x, 0), which would turn NaN into 0

    @staticmethod
    def gradient(gy, y):
        return where(y > 0, gy, 0)


def relu(x: Tensor) -> Tensor:
    """Rectified linear unit max(x, 0); its derivative at 0 is taken to be 0.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    Source: Nair & Hinton, ICML 2010.
    """
    return Relu.of(x)


class Relu6(Activation, op="relu6"):
    kinks = (0.0, 6.0)

    @staticmethod
    def value(x):
        # Not one `where` inside of another: Numba warns when it compiles that. NaN stays NaN.
        return where((x <= 0) | (x >= 6), SIX * (x >= 6), x)

    @staticmethod
    def gradient(gy, y):
        return where((y > 0) & (y < 6), gy, 0)


def relu6(x: Tensor) -> Tensor:
    """Rectified linear unit with a ceiling, min(max(x, 0), 6); its derivative at 0 and 6 is taken to be 0.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    Source: Krizhevsky, Convolutional deep belief networks on CIFAR-10, 2010; Sandler et al., MobileNetV2, CVPR 2018.
    """
    return Relu6.of(x)


class LeakyRelu(Activation, op="leaky_relu"):
    parameters = ({"slope": 0.1}, {"slope": 1.5})
    kinks = (0.0,)

    @staticmethod
    def value(x, slope):
        return where(x > 0, x, slope * x)

    @staticmethod
    def gradient(gy, y, slope):
        return where(y > 0, gy, slope * gy)


def leaky_relu(x: Tensor, slope: float = 0.1) -> Tensor:
    """Leaky rectified linear unit: x where x > 0, else slope x; its derivative at 0 is taken to be slope.

    x: float, any shape; slope > 0. Returns the same shape and dtype. Raises TypeError for integers in x and
    ValueError for slope <= 0. Source: Maas et al., ICML 2013 workshop, section 2.
    """
    return LeakyRelu.of(x, slope=positive("leaky_relu", "slope", slope, hint=" (for 0 there is relu)"))


class Sigmoid(Activation, op="sigmoid"):
    @staticmethod
    def value(x):
        e = exp_of_nonpositive(-abs(x))
        return where(x < 0, e, ONE) / (ONE + e)

    @staticmethod
    def gradient(gy, y):
        return gy * y * (ONE - y)


def sigmoid(x: Tensor) -> Tensor:
    """Logistic sigmoid 1 / (1 + exp(-x)), between 0 and 1; exact for large |x| too.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    """
    return Sigmoid.of(x)


class Tanh(Activation, op="tanh"):
    @staticmethod
    def value(x):
        return tanh_of(x)

    @staticmethod
    def gradient(gy, y):
        return gy * ((ONE - y) * (ONE + y))


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, between -1 and 1.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    """
    return Tanh.of(x)


class Softplus(Activation, op="softplus"):
    @staticmethod
    def value(x):
        return where(x > 0, x, 0) + log1p_of_unit(exp_of_nonpositive(-abs(x)))

    @staticmethod
    def gradient(gy, y):
        return gy * -expm1_of_nonpositive(-y)


def softplus(x: Tensor) -> Tensor:
    """Softplus log(1 + exp(x)), a smooth ReLU: nearly 0 for very negative x, nearly x for large x.

    x: float, any shape. Returns the same shape and dtype. Raises TypeError for integers.
    Source: Dugas et al., NIPS 2000, equation 2.
    """
    return Softplus.of(x)
