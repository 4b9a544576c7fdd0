"""Functions that are composed of other operations: they need no kernel, and few need a derivative of their own."""
