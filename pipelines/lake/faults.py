"""Turns the faults of catalogues, object stores and disks into domain errors that say how to mend them."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from requests import RequestException

from pipelines.errors import CatalogError, CommitError, EmbedlakeError, StorageError
from pipelines.lake.config import CREDENTIAL_VARIABLE, TOKEN_VARIABLE, LakeConfig
from pipelines.redact import redact

_CREDENTIALS = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile of the AWS chain)"

_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")

# (the fault's words, what is wrong, how to mend it), the first match wins. The words are those of botocore
# and s3fs, of the AWS C++ client in pyarrow, and of the JVM's AWS SDK.
_SIGNS: tuple[tuple[str, str, str], ...] = (
    (
        r"SignatureDoesNotMatch|InvalidAccessKeyId|InvalidClientTokenId|signature we calculated"
        r"|[Aa]ccess [Kk]ey I[Dd] you provided does not exist",
        "the object store refuses the credentials",
        _CREDENTIALS,
    ),
    (
        r"NoCredentialsError|Unable to (?:locate|load) credentials",
        "there are no credentials for the object store",
        _CREDENTIALS,
    ),
    (
        r"NoSuchBucket|specified bucket does not exist|NO_SUCH_BUCKET",
        "the bucket does not exist",
        "Create it, or correct the address",
    ),
    (
        # A bare 403 may be a count of rows or part of a port.
        r"ACCESS_DENIED|Access ?Denied|PermissionError: Forbidden|\(403\)|(?i:status(?: code)?:? ?403\b)",
        "the object store refuses access",
        f"{_CREDENTIALS}, and the bucket's policy",
    ),
    (
        r"SSLError|SSL validation failed|CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER"
        r"|curlCode: (?:35|60)\b",
        "the object store and this machine do not agree on TLS",
        "Correct http:// or https:// in lake.s3.endpoint, or this machine's certificate authorities",
    ),
    (
        r"EndpointConnectionError|Could not connect to the endpoint|NETWORK_CONNECTION|ConnectTimeoutError"
        r"|Couldn't connect to server|Unable to execute HTTP request",
        "the object store does not answer",
        "Start it, or correct lake.s3.endpoint (EMBEDLAKE_LAKE__S3__ENDPOINT)",
    ),
    (
        r"AWS Error (?:INTERNAL_FAILURE|SLOW_DOWN|SERVICE_UNAVAILABLE|THROTTLING)"
        r"|\((?:HTTP status |Service: S3, Status Code: )(?:429|5\d\d)\b"
        r"|Errno 121\] Internal Server Error|Errno 16\] Service Unavailable"
        r"|An error occurred \((?:429|5\d\d)\)",
        "the object store fails, or is asked too much at once",
        "See its log, and run the same command again",
    ),
)

_REFUSALS = {"UnauthorizedError", "ForbiddenError", "OAuthError", "AuthorizationExpiredError"}
_REST_FAULTS = _REFUSALS | {
    "RESTError",
    "ServerError",
    "BadRequestError",
    "ServiceUnavailableError",
    "TooManyRequestsError",
    "CommitFailedException",
}
_LASTING = r"refuses|disk is full|no credentials|bucket does not exist|do not agree on TLS"
_JVM_REFUSALS = r"iceberg\.exceptions\.(?:NotAuthorized|Forbidden)Exception"
_FILE_HINTS = {
    errno.EACCES: "Give this user the right to it, or name another folder",
    errno.EPERM: "Give this user the right to it, or name another folder",
    errno.EROFS: "It is mounted read-only: name another folder",
    errno.ENOENT: "Bring it back, or correct the path",
    errno.ENOTDIR: "A file stands where a folder should: correct the path",
    errno.EEXIST: "A file stands where a folder should: correct the path",
    errno.EISDIR: "A folder stands where a file should: correct the path",
    errno.ENAMETOOLONG: "Name a shorter path",
    errno.EIO: "Check the disk, and run the same command again",
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
    text = " | ".join(f"{type(link).__name__}: {link}" for link in chain)
    full = {errno.ENOSPC, errno.EDQUOT}
    if _DISK_FULL.search(text) or any(isinstance(link, OSError) and link.errno in full for link in chain):
        return StorageError(
            f"the disk is full ({_detail(chain, _DISK_FULL)})",
            "Free some space (local Spark and Ray files go to $TMPDIR) and run the same command again: "
            "what was committed is kept",
        )
    if _is_catalog_fault(chain, text, config):
        return _catalog_error(chain, text, config)
    for words, message, hint in _SIGNS:
        if re.search(words, text):
            return StorageError(f"{message} ({_detail(chain, re.compile(words))})", hint)
    return _file_error(error)


def is_lasting(error: EmbedlakeError) -> bool:
    """Whether a fault is of a kind that somebody has to mend: waiting does not."""
    return re.search(_LASTING, error.message) is not None


def _file_error(error: BaseException | None) -> StorageError | None:
    while error is not None:  # only what it was raised from: a fault that was handled is another matter
        if isinstance(error, FileNotFoundError) and error.errno is None:  # as pyarrow tells of any store
            return StorageError(
                f"a file is gone ({_detail([error])})",
                "It may have been removed as an old snapshot's while it was read: run the same command again",
            )
        if isinstance(error, OSError) and error.errno in _FILE_HINTS:
            return StorageError(
                f"a file or folder cannot be used ({_detail([error])})", _FILE_HINTS[error.errno]
            )
        error = error.__cause__
    return None


def _catalog_error(chain: list[BaseException], text: str, config: LakeConfig) -> EmbedlakeError:
    where = redact(config.catalog_uri or config.catalog.type)
    names = {type(link).__name__ for link in chain}
    status = next((code for link in chain if (code := _status(link))), None)
    if names & _REFUSALS or status in (401, 403) or re.search(_JVM_REFUSALS, text):
        return CatalogError(
            f"the catalogue at {where} refuses the credential",
            "Set lake.catalog.auth to oauth2 or sigv4"
            if config.catalog.auth == "none"
            else f"Check {CREDENTIAL_VARIABLE} (client-id:secret) or {TOKEN_VARIABLE}",
        )
    if "CommitFailedException" in names:
        return CommitError("the table was changed by others again and again", "Run the same command again")
    if any(type(link).__module__.startswith(("sqlite3", "sqlalchemy")) for link in chain):
        if "database is locked" in text:
            return CatalogError(f"others keep the catalogue {where} locked", "Run the same command again")
        hint = "Check that the folder is there and may be written, and that the file is a catalogue"
        return CatalogError(f"the catalogue {where} cannot be used ({_detail(chain)})", hint)
    asked = next((url for link in chain if (url := _asked(link))), "")
    if status is not None:
        return CatalogError(
            f"the catalogue answers with status {status} to {redact(asked)}",
            "See its log, and run the same command again"
            if status >= 500
            else "Correct lake.catalog.uri, lake.catalog.oauth2_server_uri or lake.warehouse",
        )
    what, setting = f"the catalogue at {where}", "lake.catalog.uri (EMBEDLAKE_LAKE__CATALOG__URI)"
    if asked and asked == config.catalog.oauth2_server_uri:
        what, setting = f"the catalogue's token service {redact(asked)}", "lake.catalog.oauth2_server_uri"
    return CatalogError(f"{what} does not answer ({_detail(chain)})", f"Start it, or correct {setting}")


def _is_catalog_fault(chain: list[BaseException], text: str, config: LakeConfig) -> bool:
    asked = next((url for link in chain if (url := _asked(link))), None)
    known = {urlsplit(url or "").netloc for url in (config.catalog.uri, config.catalog.oauth2_server_uri)}
    if asked is not None and urlsplit(asked).netloc not in known:
        return False  # a request of something else, such as a model's download
    modules = {type(link).__module__.partition(".")[0] for link in chain}
    if modules & {"requests", "sqlalchemy", "sqlite3", "thrift"}:
        return True
    if _REST_FAULTS & {type(link).__name__ for link in chain}:
        return True
    return "RESTException" in text or re.search(_JVM_REFUSALS, text) is not None


def _asked(link: BaseException) -> str | None:
    """The URL that a `requests` error is about."""
    url = link.request.url if isinstance(link, RequestException) and link.request is not None else None
    return url if isinstance(url, str) else None


def _status(link: BaseException) -> int | None:
    """The HTTP status that a `requests` error is about."""
    if isinstance(link, RequestException) and link.response is not None:
        return link.response.status_code
    return None


def _detail(chain: list[BaseException], words: re.Pattern[str] | None = None) -> str:
    """The innermost cause in one short line; of the many lines that a JVM says, the one with these words."""
    last = chain[-1]
    said = str(last).splitlines()
    with_words = [line for line in said if words and words.search(line)]
    line = " ".join(" ".join(with_words[:1] or said).split()).removeprefix("Caused by: ")
    line = redact(line or type(last).__name__)
    return line if len(line) <= 160 else f"{line[:157]}..."


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
