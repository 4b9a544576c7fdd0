"""Modules and layers, initial values, optimizers, and the summary of a model."""

from ..engine.foreign import module_getattr
from . import init, optim
from .activations import (
    ELU,
    Flatten,
    Identity,
    LeakyReLU,
    LogSoftmax,
    Maxout,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)
from .containers import ModuleDict, ModuleList
from .groups import GroupNorm, InstanceNorm
from .layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    LocalResponseNorm,
    Sequential,
)
from .losses import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, DiceLoss, L1Loss, MSELoss, SmoothL1Loss
from .module import Module, Parameter, observe, predict
from .pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d, MaxUnpool2d
from .recurrent import GRU, LSTM, RNN
from .summary import Summary, summary
from .volumes import AvgPool3d, Conv3d, ConvTranspose3d, MaxPool3d

__getattr__ = module_getattr(__name__)
