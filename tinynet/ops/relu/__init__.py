"""The rectified linear unit; start with derivation.md."""
