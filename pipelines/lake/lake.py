"""One `Lake`, opened from configuration: the catalogue for pyiceberg, and the same one for Spark."""

import contextlib
import os
from collections.abc import Callable
from typing import Any, TypeVar

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from pipelines.errors import CatalogError, CommitError, ModelError
from pipelines.lake import s3
from pipelines.lake.config import CREDENTIAL_VARIABLE, TOKEN_VARIABLE, LakeConfig
from pipelines.lake.faults import explained
from pipelines.lake.table_spec import TableSpec
from pipelines.lake.tables import BY_NAME, TABLES, TOKENIZER_PROPERTY

T = TypeVar("T")
_ATTEMPTS = 20


class Lake:
    """The tables of one namespace in one catalogue.

    Open it with `Lake.open`; it holds no connection that needs closing, and is rebuilt from its `config`
    in another process.

    Attributes:
        config: What it was opened from; holds no secret.
        catalog: The pyiceberg catalogue.
    """

    def __init__(self, config: LakeConfig, catalog: Catalog) -> None:
        self.config = config
        self.catalog = catalog

    @classmethod
    def open(cls, config: LakeConfig) -> "Lake":
        """Connects to the catalogue; creates a local lake's folder if it is absent.

        Raises:
            CatalogError: The catalogue does not answer, or refuses.
            StorageError: The local folder cannot be made.
        """
        with explained(config):
            if config.root is not None:
                (config.root / "warehouse").mkdir(parents=True, exist_ok=True)
            catalog = _settled(lambda: load_catalog(config.name, **_pyiceberg_properties(config)))
            # Both asks the service something, and costs nothing where it is a file.
            catalog.namespace_exists(config.namespace)
            return cls(config, catalog)

    def identifier(self, name: str) -> tuple[str, str]:
        """The pyiceberg identifier of a table."""
        return (self.config.namespace, name)

    def spark_identifier(self, name: str) -> str:
        """The quoted Spark SQL identifier of a table."""
        return f"`{self.config.name}`.`{self.config.namespace}`.`{name}`"

    def exists(self, name: str) -> bool:
        """Whether the table is there."""
        with explained(self.config):
            return bool(self.catalog.table_exists(self.identifier(name)))

    def table(self, name: str) -> Table:
        """The table as it is now.

        Raises:
            CatalogError: There is no such table, or the catalogue does not answer.
        """
        with explained(self.config):
            try:
                return self.catalog.load_table(self.identifier(name))
            except (NoSuchTableError, NoSuchNamespaceError) as error:
                raise CatalogError(
                    f"the lake has no table '{self.config.namespace}.{name}'",
                    "Run 'embedlake curate' first" if name in BY_NAME else "",
                ) from error

    def ensure_namespace(self) -> None:
        """Creates the namespace where it is absent. Safe to run from many jobs at once."""
        place = {}
        if self.config.catalog.type in ("hive", "glue"):
            # These know a namespace's own place, else one that the service was set up with.
            root = (self.config.warehouse_uri or "").rstrip("/")
            place = {"location": f"{root}/{self.config.namespace}.db"}
        with explained(self.config):
            _settled(lambda: self.catalog.create_namespace_if_not_exists(self.config.namespace, place))

    def ensure_tables(self) -> None:
        """Creates the namespace and every table that is absent. Safe to run from many jobs at once.

        Raises:
            CatalogError: A table is there and lacks a column.
        """
        self.ensure_namespace()
        with explained(self.config):
            for spec in TABLES:
                try:
                    table = self.catalog.load_table(self.identifier(spec.name))
                except NoSuchTableError:
                    self.create(spec)
                else:
                    _check_columns(table, spec)

    def create(self, spec: TableSpec) -> None:
        """Creates a table where it is absent. Safe to run from many jobs at once."""
        with explained(self.config), contextlib.suppress(TableAlreadyExistsError):
            self.catalog.create_table(
                self.identifier(spec.name),
                schema=spec.schema,
                partition_spec=spec.partition_spec(self.config.buckets),
                sort_order=spec.sort_order(),
                properties=spec.table_properties(),
            )

    def bind_tokenizer(self, fingerprint: str) -> None:
        """Records the tokenizer of `chunks.input_ids`, or checks that it is the recorded one.

        Raises:
            ModelError: The table's chunks were made by another tokenizer.
        """
        check_tokenizer(self.bound("chunks", TOKENIZER_PROPERTY, fingerprint), fingerprint)

    def bound(self, name: str, key: str, value: str) -> str:
        """The value of a table's property, which is set to `value` where it has none: the first one stays."""
        table = self.table(name)
        return table.properties[key] if key in table.properties else self.set_property(name, key, value, True)

    def set_property(
        self, name: str, key: str, value: str, only_if_absent: bool = False, instead_of: str | None = None
    ) -> str:
        """Sets a table's property, and gives what it then is.

        Args:
            name: Of the table.
            key: Of the property.
            value: What it becomes.
            only_if_absent: A value that is there stays.
            instead_of: Any other value than this one stays.
        """
        table = self.table(name)
        for _ in range(_ATTEMPTS):
            if only_if_absent and key in table.properties:
                return str(table.properties[key])
            if instead_of is not None and table.properties.get(key) != instead_of:
                return str(table.properties.get(key, ""))
            with (
                explained(self.config),
                contextlib.suppress(CommitFailedException),  # others changed the table: look again
            ):
                with table.transaction() as transaction:
                    transaction.set_properties({key: value})
                return value
            table.refresh()
        raise CommitError(f"the table of {name} was changed by others again and again", "Run again")

    def spark_conf(self) -> dict[str, str]:
        """Spark settings that open this very catalogue. Holds no secret: see `spark_secrets`."""
        config, prefix = self.config, f"spark.sql.catalog.{self.config.name}"
        conf = {
            prefix: "org.apache.iceberg.spark.SparkCatalog",
            # Another process commits too: a cached table would be an old one.
            f"{prefix}.cache-enabled": "false",
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            # Keys are required columns; a DataFrame's columns are nullable to Spark, whatever they hold.
            "spark.sql.iceberg.check-nullability": "false",
            "spark.redaction.regex": "(?i)secret|password|token|credential|access[.-]?key",
        }
        if config.warehouse_uri:
            conf[f"{prefix}.warehouse"] = config.warehouse_uri
        if config.catalog.type == "sql":
            uri = config.catalog_uri or ""
            path = uri.removeprefix("sqlite:///")
            conf |= {
                f"{prefix}.type": "jdbc",
                f"{prefix}.uri": f"jdbc:sqlite:{path}" if uri.startswith("sqlite:") else f"jdbc:{uri}",
                f"{prefix}.jdbc.schema-version": "V1",
                # Many writers to one file: wait for the lock instead of failing at once.
                f"{prefix}.jdbc.busy_timeout": "60000",
            }
        else:
            conf[f"{prefix}.type"] = config.catalog.type
            if config.catalog.uri:
                conf[f"{prefix}.uri"] = config.catalog.uri
        if config.catalog.type == "rest":
            if config.catalog.auth == "sigv4":
                conf[f"{prefix}.rest.sigv4-enabled"] = "true"
            if config.catalog.oauth2_server_uri:
                conf[f"{prefix}.oauth2-server-uri"] = config.catalog.oauth2_server_uri
        if s3.is_used(config):
            conf |= {f"{prefix}.{key}": value for key, value in s3.spark_properties(config.s3).items()}
        return conf | {f"{prefix}.{key}": value for key, value in config.catalog.properties.items()}

    def spark_secrets(self) -> dict[str, str]:
        """The catalogue's credential as session settings, to be set after the session has started.

        A setting given at start-up stands in the JVM's command line, where `ps` shows it.
        """
        prefix = f"spark.sql.catalog.{self.config.name}"
        return {f"{prefix}.{key}": value for key, value in _oauth2_secrets(self.config).items()}


def _check_columns(table: Table, spec: TableSpec) -> None:
    """Refuses a table that another version of embedlake made, or something else."""
    there = set(table.schema().column_names)
    lacking = [field.name for field in spec.schema.fields if field.name not in there]
    if lacking:
        raise CatalogError(
            f"the lake's table '{spec.name}' has no column {', '.join(lacking)}: another version made it",
            "Use another namespace (--set lake.namespace=NAME) and curate the corpus into it",
        )


def _settled(action: Callable[[], T]) -> T:
    """What `action` gives, tried again where another job has just created what it was about to create.

    A SQL catalogue tells such a rival by the database's own fault: a table or a row that exists already.
    """
    for _ in range(_ATTEMPTS):
        try:
            return action()
        except SQLAlchemyError as error:
            if not any(word in str(error) for word in ("already exists", "UNIQUE constraint")):
                raise
    return action()


def check_tokenizer(recorded: str, fingerprint: str) -> None:
    """Refuses a tokenizer that is not the one of the table.

    Raises:
        ModelError: They differ.
    """
    if recorded != fingerprint:
        raise ModelError(
            f"the lake's chunks were made by tokenizer {recorded[:12]}, the model has {fingerprint[:12]}",
            "Use a model with that tokenizer, or another namespace (--set lake.namespace=NAME)",
        )


def _oauth2_secrets(config: LakeConfig) -> dict[str, str]:
    if config.catalog.type != "rest" or config.catalog.auth != "oauth2":
        return {}
    if token := os.environ.get(TOKEN_VARIABLE):
        return {"token": token}
    if credential := os.environ.get(CREDENTIAL_VARIABLE):
        return {"credential": credential}
    raise CatalogError(
        "the catalogue wants OAuth2 and the environment has no credential",
        f"Set {CREDENTIAL_VARIABLE}=client-id:secret or {TOKEN_VARIABLE}",
    )


def _pyiceberg_properties(config: LakeConfig) -> dict[str, Any]:
    catalog = config.catalog
    properties: dict[str, Any] = {"type": catalog.type}
    if uri := config.catalog_uri:
        properties["uri"] = uri
    if warehouse := config.warehouse_uri:
        properties["warehouse"] = warehouse
    if catalog.oauth2_server_uri:
        properties["oauth2-server-uri"] = catalog.oauth2_server_uri
    if catalog.auth == "sigv4":
        properties["rest.sigv4-enabled"] = "true"
    if catalog.type == "hive":
        # A metastore of Hive 2, which Spark carries, refuses the later type of timestamps with a zone.
        properties["hive.hive2-compatible"] = "true"
    properties |= _oauth2_secrets(config)
    if s3.is_used(config):
        properties |= s3.pyiceberg_properties(config.s3)
    return properties | catalog.properties
