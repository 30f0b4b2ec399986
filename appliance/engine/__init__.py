"""Runs many requests at once on llama.cpp, in a worker process without network."""
