import io
import logging
import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.redact import RedactingFilter, redact

KEY_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SECRET_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(("AWS_", "EMBEDLAKE_")):
            monkeypatch.delenv(name)
    return monkeypatch


@given(
    secret=st.text(SECRET_LETTERS, min_size=20, max_size=40),
    before=st.text(max_size=9),
    after=st.text(max_size=9),
)
def test_a_secret_of_the_environment_is_gone_wherever_it_stands(secret: str, before: str, after: str) -> None:
    with patch.dict(os.environ, {"AWS_SECRET_ACCESS_KEY": secret}):
        assert secret not in redact(f"{before}{secret}{after}")


@pytest.mark.parametrize("secret", ["/startsWithASlash+Key/0", "httpsNotAnAddress99", "~/tilde.secret"])
def test_a_secret_is_gone_even_if_it_begins_like_a_place(
    secret: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AWS_SECRET_ACCESS_KEY", secret)
    assert redact(f"got <{secret}> from the client") == "got <***> from the client"


def test_both_parts_of_a_catalogue_credential_are_gone(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("EMBEDLAKE_CATALOG_CREDENTIAL", "client-4711:s3cr3t:with-colon")
    assert redact("client-4711 was refused") == "*** was refused"
    assert redact("body: s3cr3t:with-colon") == "body: ***"
    assert redact("client-4711:s3cr3t:with-colon") == "***"


def test_a_client_name_that_is_a_mere_word_stays_legible(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("EMBEDLAKE_CATALOG_CREDENTIAL", "embedlake:hunter2hunter2")
    assert redact("run 'embedlake curate' first") == "run 'embedlake curate' first"
    assert "hunter2" not in redact("embedlake:hunter2hunter2")


def test_of_two_secrets_one_within_the_other_no_rest_is_left(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("A_TOKEN", "abcdef")
    environment.setenv("B_TOKEN", "abcdefghijkl")
    assert redact("xx abcdefghijkl yy") == "xx *** yy"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token", "cannot read /var/run/secrets/token"),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://169.254.170.2/creds",
            "GET http://169.254.170.2/creds",
        ),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/etc/google/key.json", "there is no /etc/google/key.json"),
        ("TOKENIZERS_CACHE", "somewhere", "the vocabulary is somewhere else"),
        ("MAX_TOKENS", "100000", "100000 rows"),
        ("MODEL_TOKENIZER", "wordpiece", "a wordpiece vocabulary"),
        ("SHORT_TOKEN", "true", "it is true"),
    ],
)
def test_variables_that_hold_a_place_or_a_number_hide_nothing(
    name: str, value: str, text: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(name, value)
    assert redact(text) == text


@given(
    st.sampled_from(["AKIA", "ASIA"]),
    st.text(KEY_LETTERS, min_size=16, max_size=16),
    st.sampled_from(["{}", "key {} is", "'{}'", "id={},", "a_{}_b".replace("_", " ")]),
)
def test_an_aws_key_id_is_gone_from_any_sentence(kind: str, rest: str, sentence: str) -> None:
    assert kind + rest not in redact(sentence.format(kind + rest))


def test_what_only_begins_like_an_aws_key_id_stays() -> None:
    text = "AKIABC, XAKIAABCDEFGHIJKLMNOP and AKIAABCDEFGHIJKLMNOPQ"
    assert redact(text) == text


SECRETS = [
    ("postgresql://user:hunter2@db:5432/lake", "hunter2"),
    ("redis://:hunter2@cache/0", "hunter2"),
    ("http://me:p@ss:word@host/path", "p@ss"),
    ("http://me:p@ss:word@host/path", "word@"),
    ("s3.secret-access-key=abc/def+12345", "abc/def"),
    ("{'s3.secret-access-key': 'abc def ghi'}", "def"),
    ('{"secretAccessKey":"abcdefghij"}', "abcdefghij"),
    ("s3.access-key-id=minioadmin", "minioadmin"),
    ("aws_secret_access_key = abcdefghij", "abcdefghij"),
    ("fs.s3a.secret.key=abcdefghij&x=1", "abcdefghij"),
    ("password: hunter2", "hunter2"),
    ("password=12345678", "12345678"),
    ("credential=client-id:hunter22", "hunter22"),
    ("--conf spark.sql.catalog.lake.credential=me:hunter22", "hunter22"),
    ("EMBEDLAKE_CATALOG_TOKEN=abcdefgh", "abcdefgh"),
    ('{"access_token": "abcdefghij", "expires_in": 3600}', "abcdefghij"),
    ("oauth2 token: abc123def456", "abc123def456"),
    ("client_secret=abcd1234&grant_type=client_credentials", "abcd1234"),
    ("Authorization: Bearer abc", "abc"),
    ("'authorization': 'Basic dXNlcjpwYXNz'", "dXNlcjpwYXNz"),
    ("sent Bearer eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln", "eyJhbGciOiJIUzI1NiJ9"),
    ("sent bearer abcdefghijklmnopqrstuvwx", "abcdefghijklmnopqrstuvwx"),
    ("https://b.s3/k?X-Amz-Credential=AKx/2026/us-east-1&X-Amz-Signature=ab12&partNumber=1", "ab12"),
    ("https://b.s3/k?X-Amz-Credential=AKx/2026/us-east-1&X-Amz-Signature=ab12&partNumber=1", "AKx"),
    ("https://b.s3/k?X-Amz-Security-Token=IQoJb3JpZ2luX2", "IQoJb3JpZ2luX2"),
    ("AWS4-HMAC-SHA256 SignedHeaders=host, Signature=0123456789abcdef0123", "0123456789abcdef0123"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_what_looks_like_a_secret_is_gone(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)


@pytest.mark.parametrize("text", [text for text, _ in SECRETS])
def test_what_stands_around_a_secret_stays_and_redacting_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert once.startswith(text[:3])
    assert "***" in once
    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "n_tokens=512",
        "n_tokens=51200",
        "max_new_token=51200, batch_token = 4096",
        "max_tokens: 2048, overlap_tokens: 0",
        "tokens: 512",
        "42,000 tokens/s, 1,234 tokens",
        "tokenizer: abcdef",
        "embedlake.tokenizer=9f86d081884c7d659a2feaa0c55ad015",
        "the lake's chunks were made by tokenizer 9f86d081884c, the model has 2c26b46b68ff",
        "tokenizer_file=/models/minilm/tokenizer.json",
        "pad_token='[PAD]' mask_token=<mask> cls_token: [CLS]",
        "token ids: [101, 2023, 102]",
        "unexpected token: comma at line 3",
        "setting 'curate.chunk.max_tokens' in the settings: Input should be greater than or equal to 8",
        "Set EMBEDLAKE_CATALOG_CREDENTIAL=client-id:secret or EMBEDLAKE_CATALOG_TOKEN",
        "Check EMBEDLAKE_CATALOG_CREDENTIAL (client-id:secret) or EMBEDLAKE_CATALOG_TOKEN",
        "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile of the AWS chain)",
        "no credentials: Unable to locate them",
        "fs.s3a.aws.credentials.provider=org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
        "Basic authentication is required, a bearer certificate is not enough",
        "basic DataFrame operations",
        "s3://lake/raw/part-00000.parquet",
        "s3://icelake/x1/chunks/data/source=a:b@c/doc_bucket=1/part.parquet",
        "http://127.0.0.1:8333/lake?list-type=2&mail=a@b.example",
        "abfss://container@account.dfs.core.windows.net/wh",
        "file:///home/me/embedlake-data/warehouse",
        "sqlite:////home/me/embedlake-data/catalog.db",
        "nomic-ai/nomic-embed-text-v1.5@1a2b3c4d",
        "token=None, password=None, secret: null",
        "the secret of a good pipeline is its password-free catalogue",
    ],
)
def test_ordinary_words_are_left_alone(text: str, environment: pytest.MonkeyPatch) -> None:
    del environment
    assert redact(text) == text


@given(st.lists(st.from_regex(r"[a-z]{1,12}[.,]?", fullmatch=True), max_size=12), st.integers(0, 10**9))
def test_prose_about_tokens_with_numbers_is_left_alone(words: list[str], number: int) -> None:
    assume(not {"bearer", "basic"} & {word.strip(".,") for word in words})
    text = f"{' '.join(words)} {number} tokens, max_tokens={number}, n_tokens: {number}"
    with patch.dict(os.environ, clear=True):
        assert redact(text) == text


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    logger, stream = logging.Logger("test"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    handler.addFilter(RedactingFilter())
    logger.addHandler(handler)
    yield logger, stream
    handler.close()


Log = tuple[logging.Logger, io.StringIO]


def test_a_logged_message_and_its_arguments_are_redacted(log: Log) -> None:
    logger, stream = log
    logger.error("opening %s with %d parts at 100%%", "postgresql://me:hunter2@db", 3)
    assert stream.getvalue() == "test: opening postgresql://***@db with 3 parts at 100%\n"


def test_a_message_with_percent_signs_of_its_own_survives(log: Log) -> None:
    logger, stream = log
    logger.error("password=50%secret and 100% done")
    assert stream.getvalue() == "test: password=*** and 100% done\n"


def test_a_logged_traceback_is_redacted(log: Log) -> None:
    logger, stream = log
    try:
        raise ValueError("password=hunter2hunter2")
    except ValueError:
        logger.exception("it failed")
    logged = stream.getvalue()
    assert "it failed" in logged
    assert "ValueError: password=***" in logged
    assert "hunter2hunter2" not in logged


def test_a_traceback_that_another_handler_formatted_first_is_redacted_too() -> None:
    logger, plain, stream = logging.Logger("test"), io.StringIO(), io.StringIO()
    logger.addHandler(logging.StreamHandler(plain))
    filtered = logging.StreamHandler(stream)
    filtered.addFilter(RedactingFilter())
    logger.addHandler(filtered)
    password = "hunter2" * 2
    try:
        raise ValueError(f"password={password}")
    except ValueError:
        logger.exception("it failed")
    assert password in plain.getvalue()
    assert password not in stream.getvalue()
    assert "ValueError: password=***" in stream.getvalue()


def test_a_librarys_wrong_call_of_its_logger_neither_raises_nor_is_lost(log: Log) -> None:
    logger, stream = log
    logger.error("%d rows of %s", "many, with password=hunter2")
    assert "rows" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_logged_stack_is_redacted(log: Log) -> None:
    logger, stream = log
    logger.error("here", stack_info=True)  # password=hunter2
    assert "password=***" in stream.getvalue()
    assert "hunter2" not in stream.getvalue().replace('assert "hunter2"', "")
