"""The lakehouse: one `Lake` from configuration, its tables, and commits that never double or lose a file."""

from pipelines.lake.config import CatalogConfig, LakeConfig, S3Config
from pipelines.lake.lake import Lake

__all__ = ["CatalogConfig", "Lake", "LakeConfig", "S3Config"]
