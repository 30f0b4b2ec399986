"""Appends, proves, verifies and exports records. `audit/README.md` has the format and the contract."""
