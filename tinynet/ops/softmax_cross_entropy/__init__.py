"""Softmax cross-entropy of class indices; start with derivation.md."""
