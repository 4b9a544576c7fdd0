"""Images and volumes in another size; start with derivation.md."""
