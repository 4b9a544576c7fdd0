"""A long short-term memory over a whole sequence; start with derivation.md."""
