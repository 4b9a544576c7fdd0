"""The contestants: each module builds the same U-Net and gives a function that does one step of it."""
