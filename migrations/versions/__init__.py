"""One file per revision; `alembic revision -m "subject"` makes the next from the template."""
