"""Recipe and data to adapter and evidence. Needs the extra `training`; never imported when serving."""
