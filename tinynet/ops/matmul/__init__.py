"""The product of matrices, and of stacks of matrices; start with derivation.md."""
