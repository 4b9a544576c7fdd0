"""Images and volumes read between their pixels, at any points; start with derivation.md."""
