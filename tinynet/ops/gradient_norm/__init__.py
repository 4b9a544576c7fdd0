"""The common norm of all gradients, for clipping; start with derivation.md."""
