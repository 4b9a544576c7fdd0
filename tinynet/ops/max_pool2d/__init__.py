"""2-D max-pooling; start with derivation.md."""
