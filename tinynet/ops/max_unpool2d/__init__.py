"""Max-unpooling, the transpose of max-pooling; start with derivation.md."""
