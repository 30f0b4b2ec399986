"""Cloister: an on-premise private AI appliance. `appliance --help` lists the commands."""

__version__ = "0.1.0"
