"""A step of stochastic gradient descent; start with derivation.md."""
