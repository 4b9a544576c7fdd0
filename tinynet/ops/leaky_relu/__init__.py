"""The leaky rectified linear unit; start with derivation.md."""
