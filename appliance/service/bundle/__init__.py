"""Bundles: everything that an installation without a network needs, in one signed file. See README.md."""
