"""The engine: tensors, the backward pass, the basic operations, random streams. It knows nothing of `tinynet.ops`."""

from . import basic_ops  # gives Tensor its operators and methods: x + y, x[0], x.sum()
