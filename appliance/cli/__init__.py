"""Terminal to service and back; one file per command group."""
