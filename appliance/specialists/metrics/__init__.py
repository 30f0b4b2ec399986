"""How good predictions are, as pure functions of truths and predictions; with intervals. No files, no engine.

`intervals` draws items again; `classification`, `spans` and `quotes` count. Training and serving share them.
"""
