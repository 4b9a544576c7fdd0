"""Where values that are not finite (NaN, infinity) appeared first, as a sentence for the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..backends.arrays import array_module
from ..engine.tensor import Tensor, no_grad
from ..nn.module import Module, observe

IN_LOSS = "the outputs of all layers are finite: it comes from the loss function"


def in_batch(batch: Sequence[Tensor]) -> str | None:
    """The first array of a batch that is not finite; None if all are."""
    for i, part in enumerate(batch):
        if not _is_finite(part):
            return f"the data are at fault: array {i} of the batch, {part.shape}, holds {_count(part)}"
    return None


def in_forward_pass(model: Module, loss: Callable[..., Tensor], batch: Sequence[Tensor]) -> str | None:
    """The weight or the first layer's output that is not finite, or None. Runs the forward pass again."""
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter):
            return f"the weight {name} holds {_count(parameter)}"
    names = {id(module): name for name, module in model.named_modules()}
    found: list[str] = []

    def look(module: Module, inputs: tuple, output: Any) -> None:
        outputs = output if isinstance(output, (tuple, list)) else (output,)
        bad = [o for o in outputs if isinstance(o, Tensor) and not _is_finite(o)]
        if bad and not found:
            name = names.get(id(module)) or "the model"
            found.append(f"first in the output of {name} ({type(module).__name__}): {_count(bad[0])}")

    with no_grad(), observe(look):
        loss(*batch)
    return found[0] if found else None


def in_gradients(model: Module) -> str:
    """The parameter nearest to the loss whose gradient is not finite: the backward pass computed it first."""
    bad = [(n, p.grad) for n, p in model.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    if not bad:
        return "the gradients are too large to be squared"
    name, grad = bad[-1]
    return f"the gradient of {name} holds {_count(grad)}"


def in_weights(model: Module) -> str | None:
    """The first parameter or buffer that is not finite; None if all are."""
    for name, array in (*model.named_parameters(), *model.named_buffers()):
        if not _is_finite(array):
            return f"{name} holds {_count(array)}"
    return None


def _array(values: Any) -> Any:
    return values.data if isinstance(values, Tensor) else values


def _is_finite(values: Any) -> bool:
    array = _array(values)
    return array.dtype.kind != "f" or bool(array_module(array).isfinite(array).all())


def _count(values: Any) -> str:
    array = _array(values)
    xp = array_module(array)
    nans, infinities = int(xp.isnan(array).sum()), int(xp.isinf(array).sum())
    return f"{nans} NaN and {infinities} infinite of {array.size} values"
