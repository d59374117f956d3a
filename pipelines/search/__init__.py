"""Exact search over the embeddings of a lake, at any dimension that the model was made for."""

from pipelines.search.search import Hit, Searcher, search

__all__ = ["Hit", "Searcher", "search"]
