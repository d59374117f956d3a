"""Turns the faults of catalogues, object stores and disks into domain errors that say how to mend them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import CatalogError, CommitError, EmbedlakeError, StorageError
from pipelines.lake.config import CREDENTIAL_VARIABLE, LakeConfig
from pipelines.redact import redact

_CREDENTIALS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile of the AWS chain)"

# (words of the fault, error class, what is wrong, how to mend it), the first match wins. The words are
# those of botocore and s3fs, of the AWS C++ client in pyarrow, of the JVM's AWS SDK and of POSIX.
_SIGNS: tuple[tuple[tuple[str, ...], type[EmbedlakeError], str, str], ...] = (
    (
        ("No space left on device", "ENOSPC", "Disk quota exceeded"),
        StorageError,
        "the disk is full",
        "Free some space (local Spark and Ray files go to $TMPDIR) and run the same command again: "
        "what was committed is kept",
    ),
    (
        (
            "SignatureDoesNotMatch",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "signature we calculated",
            "Access Key Id you provided does not exist",
            "access key ID you provided does not exist",
        ),
        StorageError,
        "the object store refuses the credentials",
        _CREDENTIALS,
    ),
    (
        ("NoCredentialsError", "Unable to locate credentials", "Unable to load credentials"),
        StorageError,
        "there are no credentials for the object store",
        _CREDENTIALS,
    ),
    (
        ("NoSuchBucket", "specified bucket does not exist", "NO_SUCH_BUCKET"),
        StorageError,
        "the bucket does not exist",
        "Create it, or correct the address",
    ),
    (
        ("ACCESS_DENIED", "AccessDenied", "Access Denied", "Forbidden", "403"),
        StorageError,
        "the object store refuses access",
        f"{_CREDENTIALS}, and the bucket's policy",
    ),
    (
        (
            "EndpointConnectionError",
            "Could not connect to the endpoint",
            "NETWORK_CONNECTION",
            "Couldn't connect to server",
            "Unable to execute HTTP request",
        ),
        StorageError,
        "the object store does not answer",
        "Start it, or correct lake.s3.endpoint (EMBEDLAKE_LAKE__S3__ENDPOINT)",
    ),
)


_REST_FAULTS = {
    "UnauthorizedError",
    "ForbiddenError",
    "OAuthError",
    "RESTError",
    "ServerError",
    "BadRequestError",
    "ServiceUnavailableError",
    "CommitFailedException",
    "AuthorizationExpiredError",
}


@contextmanager
def explained(config: LakeConfig) -> Iterator[None]:
    """Re-raises what the block raises as a domain error, secrets redacted; others pass unchanged.

    Raises:
        CatalogError: The catalogue does not answer or refuses.
        StorageError: The object store or disk does.
        CommitError: A commit kept losing its race.
    """
    try:
        yield
    except EmbedlakeError:
        raise
    except Exception as error:
        explained_error = explain(error, config)
        if explained_error is None:
            raise
        raise explained_error from error


def explain(error: BaseException, config: LakeConfig) -> EmbedlakeError | None:
    """The domain error for `error`, or None where its meaning is not known."""
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, EmbedlakeError):
            return link
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _matched("ENOSPC", "")
    text = " | ".join(f"{type(link).__name__}: {link}" for link in chain)
    if _is_catalog_fault(chain, text):
        return _catalog_error(chain, text, config)
    return _matched(text, _detail(chain))


def _matched(text: str, detail: str) -> EmbedlakeError | None:
    for words, kind, message, hint in _SIGNS:
        if any(word in text for word in words):
            return kind(f"{message} ({detail})" if detail else message, hint)
    return None


def _catalog_error(chain: list[BaseException], text: str, config: LakeConfig) -> EmbedlakeError:
    where = config.catalog_uri or config.catalog.type
    names = {type(link).__name__ for link in chain}
    if (
        names & {"UnauthorizedError", "ForbiddenError", "OAuthError", "AuthorizationExpiredError"}
        or "401" in text
    ):
        return CatalogError(
            f"the catalogue at {redact(where)} refuses the credential",
            f"Check {CREDENTIAL_VARIABLE} (client-id:secret)",
        )
    if "CommitFailedException" in names:
        return CommitError("the table was changed by others again and again", "Run the same command again")
    if "OperationalError" in names:
        hint = "Check that the folder is there and may be written, and that the file is a catalogue"
        return CatalogError(f"the catalogue file {redact(where)} cannot be used ({_detail(chain)})", hint)
    return CatalogError(
        f"the catalogue at {redact(where)} does not answer ({_detail(chain)})",
        "Start it, or correct lake.catalog.uri (EMBEDLAKE_LAKE__CATALOG__URI)",
    )


def _is_catalog_fault(chain: list[BaseException], text: str) -> bool:
    modules = {type(link).__module__.partition(".")[0] for link in chain}
    if modules & {"requests", "sqlalchemy", "sqlite3", "thrift"}:
        return True
    return bool(_REST_FAULTS & {type(link).__name__ for link in chain}) or "RESTException" in text


def _detail(chain: list[BaseException]) -> str:
    """The innermost cause in one short line."""
    last = chain[-1]
    line = " ".join(str(last).split()) or type(last).__name__
    line = redact(line)
    return line if len(line) <= 160 else f"{line[:157]}..."


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
