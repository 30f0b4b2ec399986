"""Opens the databases and defines their tables; no rules."""
