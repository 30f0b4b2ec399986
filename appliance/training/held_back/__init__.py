"""Held-back text: notes and queries with marked identifiers that no training text shares a name or place with.

Written apart from the training generator, on purpose: other templates, other word lists, other formats of numbers.
"""
