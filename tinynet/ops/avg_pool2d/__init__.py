"""2-D average pooling; start with derivation.md."""
