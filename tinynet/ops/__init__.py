"""One room per operation that has a hand-written kernel; see docs/design.md for the files in a room."""
