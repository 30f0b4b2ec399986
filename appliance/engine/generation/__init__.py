"""Generation: decoder models, many sequences at once, streamed. The life of a sequence is in `engine/README.md`."""
