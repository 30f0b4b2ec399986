"""Proof that nothing leaves the machine: really tried, in every way, and recorded. See README.md."""
