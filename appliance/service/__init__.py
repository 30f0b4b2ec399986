"""The use cases in order, one function each; the composition root. Owns no state."""
