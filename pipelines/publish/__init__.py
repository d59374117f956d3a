"""Embeddings to serving tables: smaller, quantised, partitioned as wanted, incremental and atomic."""

from pipelines.publish.config import PublishConfig
from pipelines.publish.run import Report, publish

__all__ = ["PublishConfig", "Report", "publish"]
