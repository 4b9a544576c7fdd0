"""The sum of two gradients of one tensor; start with derivation.md."""
