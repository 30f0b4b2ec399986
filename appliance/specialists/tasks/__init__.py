"""Preparing and finishing one task: pure functions, text in, values out."""
