"""tinynet: a from-scratch deep-learning framework to learn from.

Everything below is imported when it is first used, so that `import tinynet` is quick.
"""

import importlib

__version__ = "0.1.0"

# Public name -> the module it lives in.
_HOME = {
    "tensor": ["Tensor", "Function", "grad", "no_grad", "is_grad_enabled"],
    "saved": ["check_saved_arrays"],
    "basic_ops": [
        *("add", "sub", "mul", "div", "neg", "pow", "exp", "log", "sqrt", "abs", "sign", "clip", "astype"),
        *("maximum", "minimum", "where"),
        *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"),
        *("logical_not", "logical_and", "logical_or", "any", "all"),
        *("sum", "mean", "var", "max", "min", "argmax"),
        *("reshape", "flatten", "transpose", "swapaxes", "squeeze", "expand_dims", "broadcast_to", "sum_to"),
        *("pad", "getitem"),
        *("softmax", "log_softmax", "logsumexp"),
    ],
    "kernels": ["use_kernels", "use_backend", "backend", "device"],
    "random": ["seed"],
    "ops.concat.op": ["concat", "stack"],
    "ops.matmul.op": ["matmul"],
    "ops.conv2d.op": ["conv2d"],
    "ops.elu.op": ["elu"],
    "ops.relu.op": ["relu"],
    "ops.leaky_relu.op": ["leaky_relu"],
    "ops.tanh.op": ["tanh"],
    "ops.maxout.op": ["maxout"],
    "ops.sigmoid.op": ["sigmoid"],
    "ops.dropout.op": ["dropout"],
    "ops.dice.op": ["dice_loss"],
    "ops.bce_with_logits.op": ["bce_with_logits"],
    "ops.softmax_cross_entropy.op": ["softmax_cross_entropy"],
    "ops.conv_transpose2d.op": ["conv_transpose2d"],
    "ops.max_pool2d.op": ["max_pool2d"],
    "ops.max_unpool2d.op": ["max_unpool2d"],
    "ops.avg_pool2d.op": ["avg_pool2d"],
    "ops.batch_norm.op": ["batch_norm"],
    "ops.lstm.op": ["lstm"],
    "ops.local_response_norm.op": ["local_response_norm"],
    "gradcheck": ["gradgradcheck"],
}
_MODULES = {
    "nn",
    "optim",
    "data",
    "io",
    "metrics",
    "instances",
    "segment",
    "cli",
    "train",
    "viz",
    "kernels",
    "cusim",
    "basic_ops",
    "random",
    "tensor",  # a module that can be called, like gradcheck: tinynet.tensor(data)
    "gradcheck",
}
_NAMES = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_NAMES)


def __getattr__(name: str):
    if name in _NAMES:
        value = getattr(importlib.import_module(f"tinynet.{_NAMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"tinynet.{name}")
    else:
        raise AttributeError(f"module 'tinynet' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_MODULES})
