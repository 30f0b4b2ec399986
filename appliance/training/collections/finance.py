"""Sentiment of financial news: headlines with the entity they are about (SEntFiN), and tweets (no entity)."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from appliance.training.collections.labelled import Collection, Labelled, normalised, split

LABELS = ("negative", "neutral", "positive")
_DECISION = re.compile(r"'(.+?)': '(positive|negative|neutral)'")  # the column is no valid literal, see its README
_TWEET_LABELS = {"0": "negative", "1": "positive", "2": "neutral"}  # bearish, bullish, neutral
_LINK = re.compile(r"https?://\S+")


def read_sentiment(data: Path) -> Collection:
    """Both collections; a headline with several entities is one group."""
    with (data / "sentfin" / "SEntFiN_train.csv").open(encoding="utf-8", newline="") as file:
        headlines = [
            Labelled(row["Title"], (label,), entity, normalised(row["Title"]))
            for row in csv.DictReader(file)
            for entity, label in _DECISION.findall(row["Decisions"])
        ]
    with (data / "twitter_financial_news" / "sent_train.csv").open(encoding="utf-8", newline="") as file:
        tweets = [
            Labelled(row["text"], (_TWEET_LABELS[row["label"]],), "", normalised(_LINK.sub("", row["text"])))
            for row in csv.DictReader(file)
        ]
    return split("financial-sentiment", LABELS, headlines + tweets)
