"""What a table's definition is, engine-free; the definitions are in `tables`."""

from dataclasses import dataclass, field
from typing import Any

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import NullOrder, SortDirection, SortField, SortOrder
from pyiceberg.transforms import BucketTransform, IdentityTransform, Transform, parse_transform
from pyiceberg.types import IcebergType, MapType, NestedField, StringType

_COMMON = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
    # Many jobs share a table; Spark and pyiceberg both rebase an append. 4, the default, ran out with
    # six writers, 20 did not.
    "commit.retry.num-retries": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}


@dataclass(frozen=True)
class TableSpec:
    """A table's definition, engine-free.

    Attributes:
        name: Name within the namespace.
        doc: What a row is.
        schema: Iceberg schema, every column documented. Catalogues may renumber field ids on create.
        partitions: (column, transform, partition field's name), in order. The transform is Iceberg's text of
            it, or `bucket` for the lake's number of buckets.
        order: Columns that a data file is sorted by, ascending.
        properties: Table properties at creation.
    """

    name: str
    doc: str
    schema: Schema
    partitions: tuple[tuple[str, str, str], ...] = ()
    order: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)

    def partition_spec(self, buckets: int) -> PartitionSpec:
        """The Iceberg partition spec, with `bucket` transforms of the given size."""
        fields = []
        for number, (column, transform, name) in enumerate(self.partitions):
            source_id = self.schema.find_field(column).field_id
            made: Transform[Any, Any] = (
                BucketTransform(buckets) if transform == "bucket" else parse_transform(transform)
            )
            fields.append(
                PartitionField(source_id=source_id, field_id=1000 + number, transform=made, name=name)
            )
        return PartitionSpec(*fields)

    def sort_order(self) -> SortOrder:
        """The Iceberg sort order of a file."""
        return SortOrder(
            *(
                SortField(
                    source_id=self.schema.find_field(column).field_id,
                    transform=IdentityTransform(),
                    direction=SortDirection.ASC,
                    null_order=NullOrder.NULLS_FIRST,
                )
                for column in self.order
            )
        )

    def table_properties(self) -> dict[str, str]:
        """Properties at creation: the common ones, the table's own, and its doc."""
        return _COMMON | {"comment": self.doc} | self.properties


def schema(*columns: tuple[str, IcebergType, bool, str]) -> Schema:
    """A schema of (name, type, required, doc)."""
    return Schema(
        *(
            NestedField(field_id=number, name=name, field_type=type_, required=required, doc=doc)
            for number, (name, type_, required, doc) in enumerate(columns, start=1)
        )
    )


def metadata(first_id: int) -> MapType:
    """The type of a column of further columns, as strings."""
    return MapType(first_id, StringType(), first_id + 1, StringType(), value_required=False)
