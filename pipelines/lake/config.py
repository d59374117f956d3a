"""Where the lake is: catalogue, warehouse, object store. It has no field for a secret, by design."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipelines.config import Config

# `client-id:secret` of an OAuth2 REST catalogue, or a bearer token: from the environment only, so that
# neither a file, nor `--set`, nor a process list ever holds one.
CREDENTIAL_VARIABLE = "EMBEDLAKE_CATALOG_CREDENTIAL"
TOKEN_VARIABLE = "EMBEDLAKE_CATALOG_TOKEN"  # noqa: S105 - the variable's name, not a token

_SECRET_WORDS = ("secret", "password", "token", "credential", "access-key", "access_key", "authorization")


def _without_login(uri: str | None) -> str | None:
    if uri and "@" in uri.partition("://")[2].partition("/")[0]:
        raise ValueError(f"an address must hold no user or password: use {CREDENTIAL_VARIABLE}")
    return uri


class CatalogConfig(Config):
    """The Iceberg catalogue, the same one for pyiceberg and Spark.

    Attributes:
        type: `sql` is one SQLite file (or a JDBC database); `rest`, `glue` and `hive` are services.
        uri: `sqlite:////abs/catalog.db`, `http(s)://host` (REST) or `thrift://host:9083` (Hive).
        auth: How a REST catalogue knows the caller. `oauth2` takes EMBEDLAKE_CATALOG_CREDENTIAL or
            EMBEDLAKE_CATALOG_TOKEN from the environment, `sigv4` the AWS chain.
        oauth2_server_uri: The token endpoint, where it is not the catalogue's own.
        properties: Further pyiceberg and Spark catalogue properties, passed on as they are.
    """

    type: Literal["sql", "rest", "glue", "hive"] = "sql"
    uri: str | None = None
    auth: Literal["none", "oauth2", "sigv4"] = "none"
    oauth2_server_uri: str | None = None
    properties: dict[str, str] = Field(default_factory=dict)

    _no_login = field_validator("uri", "oauth2_server_uri")(_without_login)

    @field_validator("properties")
    @classmethod
    def _no_secret(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if any(word in key.lower() for word in _SECRET_WORDS):
                raise ValueError(
                    f"'{key}' is a credential: give it by {CREDENTIAL_VARIABLE} or the AWS chain"
                )
        return value

    @model_validator(mode="after")
    def _uri_where_needed(self) -> "CatalogConfig":
        if self.type in ("rest", "hive") and not self.uri:
            raise ValueError(
                f"a {self.type} catalogue needs its uri: set lake.catalog.uri or EMBEDLAKE_LAKE__CATALOG__URI"
            )
        return self


class S3Config(Config):
    """The object store. Credentials come from the standard AWS chain alone.

    Attributes:
        endpoint: Of an S3-compatible server; None is AWS (or AWS_ENDPOINT_URL_S3 where that is set).
        region: None is AWS_REGION, else `us-east-1`.
        path_style: Bucket in the path, which most S3-compatible servers need.
    """

    endpoint: str | None = None
    region: str | None = None
    path_style: bool = True

    _no_login = field_validator("endpoint")(_without_login)

    def resolved_endpoint(self) -> str | None:
        """The endpoint after the environment's fall-backs."""
        return (
            self.endpoint
            or os.environ.get("AWS_ENDPOINT_URL_S3")
            or os.environ.get("AWS_ENDPOINT_URL")
            or None
        )

    def resolved_region(self) -> str:
        """The region after the environment's fall-backs."""
        return (
            self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        )


class LakeConfig(Config):
    """One lake: a catalogue, a namespace in it, and where its tables' files go.

    Attributes:
        name: The catalogue's name. In a SQL catalogue it is part of every key, so both engines must agree.
        namespace: The Iceberg namespace that holds the tables.
        dir: Local shortcut: catalogue `DIR/catalog.db`, warehouse `DIR/warehouse`.
        warehouse: Root of the tables' files: `file:///…` or `s3://bucket/…`.
        buckets: Buckets of doc_id per source, fixed when a table is created. A bucket should hold some
            hundred MB of embeddings: 16 up to about ten million chunks a source, 256 for a billion.
    """

    name: str = "lake"
    namespace: str = "embedlake"
    dir: Path | None = None
    warehouse: str | None = None
    buckets: int = Field(default=16, ge=1, le=65536)
    catalog: CatalogConfig = CatalogConfig()
    s3: S3Config = S3Config()

    @field_validator("dir")
    @classmethod
    def _fits_a_uri(cls, value: Path | None) -> Path | None:
        if value is not None and set("#?%") & set(str(value.expanduser().absolute())):
            raise ValueError(f"the lake's folder is part of addresses, so '{value}' must not have #, ? or %")
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> "LakeConfig":
        if self.catalog.type == "sql" and self.dir is None and not (self.catalog.uri and self.warehouse):
            raise ValueError("needs a folder (--lake DIR), or lake.catalog.uri and lake.warehouse")
        if self.catalog.type in ("glue", "hive") and not self.warehouse:
            raise ValueError(f"a {self.catalog.type} catalogue needs lake.warehouse")
        return self

    @property
    def root(self) -> Path | None:
        """The lake's folder, absolute, where it is a local one."""
        return None if self.dir is None else self.dir.expanduser().absolute()

    @property
    def catalog_uri(self) -> str | None:
        """The catalogue's address as pyiceberg takes it."""
        if self.catalog.uri:
            return self.catalog.uri
        return f"sqlite:///{self.root / 'catalog.db'}" if self.root and self.catalog.type == "sql" else None

    @property
    def warehouse_uri(self) -> str | None:
        """The warehouse as a URI; None leaves it to a REST catalogue."""
        if self.warehouse:
            return self.warehouse if "://" in self.warehouse else f"file://{Path(self.warehouse).absolute()}"
        return f"file://{self.root / 'warehouse'}" if self.root else None


class SparkConfig(Config):
    """How Spark is run.

    Attributes:
        master: `local[*]` in this process, or a cluster's address; None leaves it to spark-submit.
        driver_memory: Heap of the driver, which in local mode does all the work.
        jars: `local` puts the jars that `make setup` fetched on the class path; `provided` means that the
            image or spark-submit has them.
        shuffle_partitions: None is twice the cores in local mode, else Spark's default.
        conf: Further Spark settings, passed on as they are. Not for secrets.
    """

    master: str | None = "local[*]"
    driver_memory: str = "2g"
    jars: Literal["local", "provided"] = "local"
    shuffle_partitions: int | None = None
    conf: dict[str, str] = Field(default_factory=dict)

    @property
    def is_local(self) -> bool:
        """Whether the executors are threads of this process."""
        return self.master is not None and self.master.startswith("local")
