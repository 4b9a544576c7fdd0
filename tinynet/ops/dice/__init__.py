"""The soft Dice loss; start with derivation.md."""
