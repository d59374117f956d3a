"""From `chunks` to `embeddings`, on Ray Data: one row a chunk and model, whatever is killed meanwhile."""

from pipelines.embed.config import EmbedConfig

__all__ = ["EmbedConfig"]
