"""Which specialists exist, what they promise, how text goes in and results come out."""
