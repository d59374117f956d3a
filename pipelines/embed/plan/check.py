"""What is wrong with the tables, or should be known of them, before anything is embedded."""

from dataclasses import asdict

from pyiceberg.table import Table

from pipelines.encoder.conf import ModelConf
from pipelines.encoder.fingerprint import ModelIdentity
from pipelines.encoder.tokenizer import Tokenizer
from pipelines.errors import CommitError, ModelError
from pipelines.lake.lake import check_tokenizer
from pipelines.lake.models import recorded_models
from pipelines.lake.tables import TOKENIZER_PROPERTY

# Fields of a model's identity that its fingerprint is made from, for people.
_TOLD = {
    "precision": "precision",
    "dimension": "dimension",
    "weights_sha256": "weights",
    "tokenizer_fingerprint": "tokenizer",
}


def check_chunks(chunks: Table, conf: ModelConf, model: ModelIdentity) -> None:
    """Refuses chunks whose token ids another tokenizer has made, where the ids are what the model would read.

    Raises:
        ModelError: The tokenizers differ, the table does not say which its was, or it has no token ids.
    """
    if not Tokenizer.load(conf).composable:
        return  # the text is tokenised again
    if "input_ids" not in chunks.schema().column_names:
        raise ModelError(
            "the table of chunks has no column 'input_ids'",
            "It was not made by embedlake curate: curate the corpus into another namespace",
        )
    recorded = chunks.properties.get(TOKENIZER_PROPERTY)
    if recorded is None:
        raise ModelError(
            "the chunks do not say which tokenizer made their ids", "Run 'embedlake curate' first"
        )
    check_tokenizer(recorded, model.tokenizer_fingerprint)


def new_fingerprint(embeddings: Table, model: ModelIdentity) -> str | None:
    """What to tell before a model's first run, where the lake has vectors by another model of its name.

    Other weights, another prefix or another precision make other vectors, so every chunk is embedded anew.
    """
    recorded = recorded_models(embeddings.properties)
    others = {key: found for key, found in recorded.items() if key.partition("@")[0] == model.name}
    if not others or model.key in others:
        return None
    key, latest = list(others.items())[-1]
    now = asdict(model)
    changed = [
        f"{word} {str(latest.get(name))[:12]}, now {str(now[name])[:12]}"
        for name, word in _TOLD.items()
        if latest.get(name) != now[name]
    ]
    what = "; ".join(changed) or "its prefix, pooling or positions differ"
    return (
        f"'{model.name}' is not the model that it was: this lake has vectors by {key} ({what}). "
        f"All chunks are embedded anew, as {model.key}, beside them"
    )


def check_partitions(chunks: Table, embeddings: Table) -> None:
    """Makes sure that a slice's embeddings are one partition: both tables bucket doc_id alike, within source.

    Raises:
        CommitError: They do not.
    """
    ours = [(field.name, str(field.transform)) for field in chunks.spec().fields]
    theirs = [(field.name, str(field.transform)) for field in embeddings.spec().fields]
    if [name for name, _ in ours] != ["source", "doc_bucket"] or theirs != [("model", "identity"), *ours]:
        raise CommitError(
            "chunks and embeddings are not partitioned alike, by source and the same buckets of doc_id",
            "Use another namespace (--set lake.namespace=NAME), where both are created together",
        )
