"""All cryptography: no I/O, no database, no configuration."""
