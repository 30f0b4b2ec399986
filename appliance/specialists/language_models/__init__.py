"""Models that write: what a GGUF file holds, where such files lie, and how they come to a machine."""
