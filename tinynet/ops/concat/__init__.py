"""Arrays one behind the other; start with derivation.md."""
