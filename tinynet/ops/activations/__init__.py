"""The activation functions, an entry each in entries.py; start with derivation.md."""

OPS = ["elu", "leaky_relu", "relu", "relu6", "sigmoid", "softplus", "tanh"]
