"""Backups of a data folder: made, verified, rehearsed, let go, and restored on a new machine. See README.md."""
