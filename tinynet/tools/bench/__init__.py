"""How fast tinynet is, beside others and beside what the machine can do; see docs/performance.md for the figures."""
