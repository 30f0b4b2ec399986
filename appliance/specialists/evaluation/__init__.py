"""Judging a specialist on labelled data: reading the data, swapping names in it, figures, the report. Pure.

What runs the contenders, and in which order it is recorded, is `service/evaluation.py`.
"""
