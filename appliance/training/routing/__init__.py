"""Requests that the router is tuned and measured on. What it decides with is `specialists/router.py`."""
