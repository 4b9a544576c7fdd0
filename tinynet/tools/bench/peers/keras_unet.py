"""The same U-Net in Keras 3 on TensorFlow, as its users write it: the functional API and `train_on_batch`.

A layer has the name of tinynet's layer with `_` for `.`, so that both can start from the same weights.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # no pages about GPUs that are not there

import keras
import tensorflow
from keras import layers

from ..examples import LEARNING_RATE, SMOOTH, images_and_masks, new_unet, unet_sizes
from . import Contestant


def convolution(name: str, channels: int, x):
    """A 3x3 convolution with ELU."""
    return layers.Conv2D(channels, 3, padding="same", activation="elu", name=name)(x)


def level(name: str, channels: int, p: float, x):
    """One level of the U-Net."""
    x = layers.Dropout(p)(convolution(f"{name}_0", channels, x))
    return convolution(f"{name}_3", channels, x)


def up(i: int, channels: int, p: float, y, skip):
    """Twice the size, beside the same level on the way down, then a level."""
    y = layers.Conv2DTranspose(channels, 2, strides=2, name=f"up{i}")(y)
    return level(f"merge{i}", channels, p, layers.Concatenate()([y, skip]))


def unet(size: int) -> keras.Model:
    """Images (N, size, size, 3), size a multiple of 16 -> (N, size, size, 1) in [0, 1]."""
    x = layers.Input((size, size, 3))
    d1 = level("down1", 16, 0.1, x)
    d2 = level("down2", 32, 0.1, layers.MaxPooling2D(2)(d1))
    d3 = level("down3", 64, 0.2, layers.MaxPooling2D(2)(d2))
    d4 = level("down4", 128, 0.2, layers.MaxPooling2D(2)(d3))
    y = level("bottom", 256, 0.3, layers.MaxPooling2D(2)(d4))
    y = up(4, 128, 0.2, y, d4)
    y = up(3, 64, 0.2, y, d3)
    y = up(2, 32, 0.1, y, d2)
    y = up(1, 16, 0.1, y, d1)
    return keras.Model(x, layers.Conv2D(1, 1, activation="sigmoid", name="head")(y))


def dice_loss(t, p):
    """The soft Dice loss over the whole batch."""
    return 1 - (2 * keras.ops.sum(p * t) + SMOOTH) / (keras.ops.sum(p) + keras.ops.sum(t) + SMOOTH)


def contestant(case: str, threads: int) -> Contestant:
    """The compiled model, fed with NumPy arrays."""
    mode, batch, size = unet_sizes(case)
    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    model = unet(size)
    weights = {name.replace(".", "_"): p.numpy() for name, p in new_unet().named_parameters()}
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}_weight"], weights[f"{layer.name}_bias"]])
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=dice_loss)
    images, masks = images_and_masks(batch, size)

    def train() -> float:
        return float(model.train_on_batch(images, masks))

    def infer() -> float:
        return float(model.predict_on_batch(images).mean())

    versions = {"keras": keras.__version__, "tensorflow": tensorflow.__version__}
    return Contestant(train if mode == "train" else infer, model.count_params(), versions)
