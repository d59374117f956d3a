"""One S3 configuration, in the words of each of its three readers."""

from typing import Any

from pipelines.lake.config import LakeConfig, S3Config


def is_used(config: LakeConfig) -> bool:
    """Whether the lake's tables are on S3 (a REST catalogue without a warehouse usually means so)."""
    return config.warehouse_uri is None or config.warehouse_uri.startswith(("s3://", "s3a://"))


def pyiceberg_properties(config: S3Config) -> dict[str, str]:
    """FileIO properties; pyarrow takes the credentials from the AWS chain."""
    properties = {
        "s3.region": config.resolved_region(),
        "s3.force-virtual-addressing": str(not config.path_style).lower(),
        "s3.connect-timeout": "10",
        "s3.request-timeout": "60",
    }
    if endpoint := config.resolved_endpoint():
        properties["s3.endpoint"] = endpoint
    return properties


def spark_properties(config: S3Config) -> dict[str, str]:
    """Catalogue properties of Iceberg's S3FileIO; the JVM takes the credentials from the AWS chain."""
    properties = {
        "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
        "client.region": config.resolved_region(),
        "s3.path-style-access": str(config.path_style).lower(),
    }
    if endpoint := config.resolved_endpoint():
        properties["s3.endpoint"] = endpoint
    return properties


def fsspec_options(config: S3Config) -> dict[str, Any]:
    """Options of `s3fs.S3FileSystem`; botocore takes the credentials from the AWS chain."""
    options: dict[str, Any] = {
        "client_kwargs": {"region_name": config.resolved_region()},
        "config_kwargs": {
            "connect_timeout": 10,
            "read_timeout": 60,
            # s3fs tries each of them five times more where a connection times out.
            "retries": {"max_attempts": 3, "mode": "standard"},
            "s3": {"addressing_style": "path" if config.path_style else "virtual"},
        },
    }
    if endpoint := config.resolved_endpoint():
        options["endpoint_url"] = endpoint
    return options
