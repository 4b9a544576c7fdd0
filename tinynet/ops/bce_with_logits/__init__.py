"""Binary cross-entropy on logits; start with derivation.md."""
