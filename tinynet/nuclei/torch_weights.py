"""Weights of the same U-Net written in PyTorch: into tinynet's model, and back.

PyTorch keeps the weight of a convolution as (C_out, C_in, KH, KW) and of a transposed convolution as
(C_in, C_out, KH, KW). tinynet has the channels last: (KH, KW, C_in, C_out) and (KH, KW, C_out, C_in). Both are the same
transposition, (2, 3, 1, 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from ..nn import Module
from ..training import io

Layer = dict[str, np.ndarray]  # "weight" and "bias"
READERS = {".pt": io.load_torch, ".pth": io.load_torch, ".safetensors": io.load_safetensors}


def load_foreign(path: Path, unet: Callable[[int], Module]) -> Module:
    """The U-Net with the weights of a file of `torch.save` or of safetensors.

    unet: makes the model for 1 or 3 heads; the last layer of the file, a convolution of 1 x 1, says which. A
    safetensors file may have PyTorch's layout or tinynet's. Raises CheckpointError, with the layers, if the file does
    not fit.
    """
    state = READERS[path.suffix.lower()](path)
    shapes = [array.shape for array in state.values()]
    in_torch = [shape[0] for shape in shapes if shape[1:] == (16, 1, 1)]
    in_tinynet = [shape[3] for shape in shapes if shape[:3] == (1, 1, 16)]
    heads = [*in_torch, *in_tinynet]
    if len(heads) != 1 or heads[0] not in (1, 3):
        raise CheckpointError(
            f"{path} holds no weights of this U-Net: its last layer must be a 1 x 1 convolution from 16 channels to 1 "
            f"or 3; there {'is none' if not heads else f'are such layers to {heads} channels'}"
        )
    model = unet(heads[0])
    try:
        weights = from_torch(state, model) if in_torch else state
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    io.assign_weights(model, weights, path)
    return model


def from_torch(state: Mapping[str, np.ndarray], model: Module) -> dict[str, np.ndarray]:
    """The weights of `model`, a tinynet U-Net, from a PyTorch state dict of the same net: {tinynet's name: array}.

    state: {name: array}, as `tn.io.load_torch` or `tn.io.load_safetensors` returns it. If both nets name their layers
    alike, the names decide. If not, the shapes decide: each layer of the model takes the first layer of the state dict
    with its shape that is not taken yet. So of two layers of one shape, PyTorch's net must define the layer of the way
    down before the layer of the way up, as a net is usually written.

    Raises CheckpointError, which names the layers, if a layer is missing, has another shape, or is left over.
    """
    theirs, own = _layers(state), _layers(model_weights(model))
    same_names = own.keys() == theirs.keys()
    matched, left = {}, dict(theirs)
    for name, layer in own.items():
        candidates = [name] if same_names else list(left)
        found = next((other for other in candidates if _shapes(_turned(left[other])) == _shapes(layer)), None)
        if found is None:
            raise CheckpointError(
                f"no layer of the state dict fits {name} of the U-Net: {_described(layer)} in PyTorch's layout is "
                f"needed, found {_listed({name: left[name]} if same_names else left)}"
            )
        matched.update({f"{name}.{part}": array for part, array in _turned(left.pop(found)).items()})
    if left:
        raise CheckpointError(f"the state dict has layers that the U-Net lacks: {_listed(left)}")
    return matched


def to_torch(model: Module) -> dict[str, np.ndarray]:
    """The weights of a tinynet U-Net in PyTorch's layout, {name: array}, for `tn.io.save_safetensors`.

    A PyTorch module with the same names reads them by `load_state_dict`.
    """
    weights = model_weights(model).items()
    return {name: np.ascontiguousarray(a.transpose(3, 2, 0, 1)) if a.ndim == 4 else a for name, a in weights}


def model_weights(model: Module) -> dict[str, np.ndarray]:
    """The parameters of a model as NumPy arrays, by name."""
    return {name: parameter.numpy() for name, parameter in model.named_parameters()}


def _layers(state: Mapping[str, np.ndarray]) -> dict[str, Layer]:
    """The arrays grouped by layer, in order: "up4.weight" and "up4.bias" become the layer "up4"."""
    layers: dict[str, Layer] = {}
    for name, array in state.items():
        layer, _, part = name.rpartition(".")
        layers.setdefault(layer, {})[part] = array
    return layers


def _turned(layer: Layer) -> Layer:
    """A layer with the axes of its weight in tinynet's order."""
    return {part: array.transpose(2, 3, 1, 0) if array.ndim == 4 else array for part, array in layer.items()}


def _shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    return {part: array.shape for part, array in layer.items()}


def _described(layer: Layer) -> str:
    """The shapes of a layer of tinynet's, as PyTorch would have them."""
    shapes = _shapes({part: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array for part, array in layer.items()})
    return ", ".join(f"{part} {shape}" for part, shape in shapes.items())


def _listed(layers: Mapping[str, Layer]) -> str:
    """The names and shapes of up to four layers."""
    shown = [f"{name} ({', '.join(f'{p} {s}' for p, s in _shapes(a).items())})" for name, a in layers.items()]
    return "; ".join(shown[:4] or ["none"]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "")
