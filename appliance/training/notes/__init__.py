"""Synthetic clinical and financial notes with the identifiers marked."""
