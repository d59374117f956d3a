import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import s3fs
from pyiceberg.exceptions import CommitFailedException
from sqlalchemy.exc import OperationalError

from infra.local.seaweed import SeaweedServer
from pipelines.curate.read.discover import discover
from pipelines.errors import CatalogError, CommitError, EmbedlakeError, ModelError, StorageError
from pipelines.lake import CatalogConfig, Lake, LakeConfig, S3Config
from pipelines.lake.faults import explain, explained
from pipelines.lake.probe import probe_storage
from tests.lake.gateway import Gateway
from tests.lake.samples import fault, opened


@pytest.fixture
def closed() -> Iterator[str]:
    """An address that nobody listens at: the port is taken, so that nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _forget_s3fs() -> Iterator[None]:
    """s3fs keeps connections by their options, in which the credentials of the environment are not."""
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


def with_catalog(config: LakeConfig, **values: object) -> LakeConfig:
    return config.model_copy(update={"catalog": config.catalog.model_copy(update=values)})


def with_endpoint(config: LakeConfig, endpoint: str) -> LakeConfig:
    return config.model_copy(update={"s3": S3Config(endpoint=endpoint)})


def on_bucket(config: LakeConfig, folder: Path, bucket: str) -> LakeConfig:
    """A lake whose tables are in a plain bucket, its catalogue a file."""
    catalog = CatalogConfig(uri=f"sqlite:///{folder}/catalog.db")
    return LakeConfig(warehouse=f"s3://{bucket}/warehouse", catalog=catalog, s3=config.s3)


# The catalogue service.


def test_a_catalogue_whose_port_is_closed(s3_config: LakeConfig, closed: str) -> None:
    with fault(CatalogError, f"the catalogue at {closed} does not answer", "EMBEDLAKE_LAKE__CATALOG__URI"):
        Lake.open(with_catalog(s3_config, uri=closed))


def test_a_catalogue_that_ends_while_a_job_runs(s3_config: LakeConfig, seaweed: SeaweedServer) -> None:
    with Gateway(seaweed.catalog_uri) as gateway:
        lake = opened(with_catalog(s3_config, uri=gateway.uri))
        assert lake.exists("chunks")
    with fault(CatalogError, f"the catalogue at {gateway.uri} does not answer"):
        lake.table("chunks")


def test_a_token_service_whose_port_is_closed_is_told_apart(s3_config: LakeConfig, closed: str) -> None:
    tokens = f"{closed}/v1/oauth/tokens"
    with fault(CatalogError, f"token service {tokens} does not answer", "lake.catalog.oauth2_server_uri"):
        Lake.open(with_catalog(s3_config, oauth2_server_uri=tokens))


def test_a_catalogue_whose_host_has_no_address(s3_config: LakeConfig) -> None:
    with fault(CatalogError, "http://no-such-host.invalid:1 does not answer"):
        Lake.open(with_catalog(s3_config, uri="http://no-such-host.invalid:1"))


@pytest.mark.parametrize("credential", ["AK0123456789:wrong-secret-value", "no-colon-in-it-4711"])
def test_a_wrong_catalogue_credential(
    s3_config: LakeConfig, credential: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDLAKE_CATALOG_CREDENTIAL", credential)
    with fault(
        CatalogError, "refuses the credential", "Check EMBEDLAKE_CATALOG_CREDENTIAL (client-id:secret)"
    ):
        Lake.open(s3_config)


def test_a_wrong_catalogue_token(s3_config: LakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDLAKE_CATALOG_TOKEN", "not-a-token-4711")
    with fault(CatalogError, "refuses the credential", "EMBEDLAKE_CATALOG_TOKEN"):
        Lake.open(s3_config)


def test_a_catalogue_that_wants_a_credential_when_none_is_configured(s3_config: LakeConfig) -> None:
    with fault(CatalogError, "refuses the credential", "Set lake.catalog.auth to oauth2"):
        Lake.open(with_catalog(s3_config, auth="none"))


@pytest.mark.parametrize("wrong", ["warehouse", "oauth2_server_uri"])
def test_an_address_that_the_catalogue_does_not_know(
    s3_config: LakeConfig, seaweed: SeaweedServer, wrong: str
) -> None:
    config = s3_config.model_copy(update={"warehouse": "s3://absent/"})
    if wrong == "oauth2_server_uri":
        config = with_catalog(s3_config, oauth2_server_uri=f"{seaweed.catalog_uri}/nothing")
    with fault(CatalogError, "answers with status 404 to http://127.0.0.1", f"{wrong}"):
        opened(config)


# The object store.


def test_a_store_whose_port_is_closed(s3_config: LakeConfig, closed: str) -> None:
    words = "the object store does not answer", "EMBEDLAKE_LAKE__S3__ENDPOINT"
    with fault(StorageError, *words):  # pyarrow
        probe_storage(Lake.open(with_endpoint(s3_config, closed)))
    with fault(StorageError, *words):  # s3fs
        discover("s3://lake/raw", "auto", None, with_endpoint(s3_config, closed))


def test_a_store_that_is_asked_by_https_and_speaks_http(
    s3_config: LakeConfig, seaweed: SeaweedServer
) -> None:
    config = with_endpoint(s3_config, seaweed.s3_endpoint.replace("http:", "https:"))
    with fault(StorageError, "do not agree on TLS", "lake.s3.endpoint"):
        discover("s3://lake/raw", "auto", None, config)


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_of_the_store(
    s3_config: LakeConfig, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "AKIAWRONGWRONGWRONG0")
    with fault(StorageError, "the object store refuses", "AWS_SECRET_ACCESS_KEY"):  # pyarrow
        probe_storage(Lake.open(on_bucket(s3_config, tmp_path, "lake")))
    with fault(StorageError, "the object store refuses the credentials", "AWS_SECRET_ACCESS_KEY"):  # s3fs
        discover("s3://lake/raw", "auto", None, s3_config)


def test_no_credentials_of_the_store(
    s3_config: LakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with fault(StorageError, "the object store refuses access"):
        probe_storage(Lake.open(on_bucket(s3_config, tmp_path, "lake")))
    with fault(StorageError, "there are no credentials for the object store", "AWS_ACCESS_KEY_ID"):
        discover("s3://lake/raw", "auto", None, s3_config)


def test_a_bucket_that_is_absent(s3_config: LakeConfig, tmp_path: Path) -> None:
    words = "the bucket does not exist", "Create it, or correct the address"
    with fault(StorageError, *words, "absent-bucket"):  # pyarrow
        probe_storage(Lake.open(on_bucket(s3_config, tmp_path, "absent-bucket")))
    with fault(StorageError, *words):
        opened(on_bucket(s3_config, tmp_path, "absent-bucket"))
    with fault(StorageError, *words):  # s3fs
        discover("s3://absent-bucket/raw", "auto", None, s3_config)


# What is no fault of the lake.


@pytest.mark.parametrize(
    "error",
    [
        ValueError("10403 rows, 401 of them odd"),
        RuntimeError("port 40312 of 4011"),
        KeyError("Forbidden"),
        TypeError("a number was wanted"),
        OSError("something else"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ],
)
def test_an_error_of_another_kind_is_not_explained_and_passes_unchanged(
    error: Exception, s3_config: LakeConfig
) -> None:
    assert explain(error, s3_config) is None
    with pytest.raises(type(error)) as caught, explained(s3_config):
        raise error
    assert caught.value is error


def test_a_request_of_something_else_is_not_blamed_on_the_catalogue(
    s3_config: LakeConfig, closed: str
) -> None:
    with pytest.raises(requests.ConnectionError), explained(s3_config):
        requests.get(f"{closed}/a-model", timeout=5)


def test_a_port_with_401_in_it_is_no_refusal(s3_config: LakeConfig) -> None:
    request = requests.Request("GET", "http://127.0.0.1:14010/v1/config").prepare()
    error = requests.ConnectionError("HTTPConnectionPool(port=14010): refused", request=request)
    found = explain(error, with_catalog(s3_config, uri="http://127.0.0.1:14010"))
    assert isinstance(found, CatalogError)
    assert "does not answer" in found.message


def test_a_domain_error_within_another_is_the_one_that_counts(s3_config: LakeConfig) -> None:
    inner = ModelError("another tokenizer")
    with pytest.raises(RuntimeError) as caught:
        raise RuntimeError("a task failed") from inner
    assert explain(caught.value, s3_config) is inner


def test_a_fault_that_was_handled_is_not_told_for_a_later_error(s3_config: LakeConfig) -> None:
    def turned_into_another() -> None:
        try:
            raise requests.ConnectionError("refused")
        except requests.ConnectionError:
            raise ValueError("a wrong number") from None

    def followed_by_another() -> None:
        try:
            Path("/no/such/file").read_text()
        except FileNotFoundError:
            raise ValueError("a wrong number")  # noqa: B904 - as a bug in a handler does

    for happens in (turned_into_another, followed_by_another):
        with pytest.raises(ValueError, match="a wrong number") as caught:
            happens()
        assert explain(caught.value, s3_config) is None


def test_a_fault_that_quotes_a_secret_is_told_without_it(s3_config: LakeConfig) -> None:
    for error in (
        OperationalError("connect to postgresql://me:hunter2@db failed", None, Exception("password=hunter2")),
        OSError(errno.ENOENT, "No such file or directory", "http://me:hunter2@host/file"),
        RuntimeError("AccessDenied: s3.secret-access-key=hunter2"),
    ):
        found = explain(error, s3_config)
        assert found is not None
        assert "***" in found.message
        assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (
            "org.apache.iceberg.exceptions.NotAuthorizedException: Not authorized",
            CatalogError,
            "refuses the cred",
        ),
        (
            "org.apache.iceberg.exceptions.RESTException: Error occurred: Connect to h",
            CatalogError,
            "not answer",
        ),
        ("S3Exception: null (Service: S3, Status Code: 403, Request ID: 4A)", StorageError, "refuses access"),
        ("NoSuchBucketException: The specified bucket does not exist", StorageError, "bucket does not exist"),
        (
            "SdkClientException: Unable to execute HTTP request: Connection refused",
            StorageError,
            "not answer",
        ),
        ("java.io.IOException: No space left on device", StorageError, "the disk is full"),
    ],
)
def test_what_the_jvm_says_in_words_alone_is_understood(
    s3_config: LakeConfig, words: str, kind: type[EmbedlakeError], told: str
) -> None:
    error = RuntimeError(f"An error occurred while calling o48.merge.\n: {words}\n\tat java.base/Thread.run")
    found = explain(error, s3_config)
    assert type(found) is kind
    assert told in found.message
    assert "\n" not in str(found)


def test_of_all_that_the_jvm_says_the_line_about_the_fault_is_told(s3_config: LakeConfig) -> None:
    cause = "java.io.IOException: No space left on device"
    said = f"An error occurred while calling o7.merge.\n: Job aborted\n\tat a.B\nCaused by: {cause}\n\tat c.D"
    found = explain(RuntimeError(said), s3_config)
    assert found is not None
    assert found.message == f"the disk is full ({cause})"


def test_a_race_lost_for_good_is_a_commit_error(s3_config: LakeConfig) -> None:
    found = explain(CommitFailedException("Table has been updated by another process"), s3_config)
    assert isinstance(found, CommitError)
    assert found.hint == "Run the same command again"
