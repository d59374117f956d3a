"""Which models a lake's embeddings were made by: one table property a model, written once."""

import json
from collections.abc import Mapping
from typing import Any

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from pipelines.errors import CommitError, ModelError
from pipelines.lake.tables import MODEL_PROPERTY

_ATTEMPTS = 20


def recorded_models(properties: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The identities that an embeddings table's properties hold, by model key.

    Raises:
        ModelError: A property is not the JSON object that `record_model` writes.
    """
    models = {}
    for name, value in properties.items():
        if name.startswith(MODEL_PROPERTY):
            try:
                models[name.removeprefix(MODEL_PROPERTY)] = dict(json.loads(value))
            except (ValueError, TypeError) as error:
                raise ModelError(
                    f"the table property '{name}' is not a model's identity: {value[:80]}"
                ) from error
    return models


def choose_key(properties: Mapping[str, str], model: str | None) -> str:
    """The key of the one recorded model that is meant.

    Args:
        properties: Of the embeddings table.
        model: A key or a model's name; None where there is one only.

    Raises:
        ModelError: None fits, or several do.
    """
    recorded = sorted(recorded_models(properties))
    fits = [key for key in recorded if model in (None, key, key.partition("@")[0])]
    if len(fits) == 1:
        return fits[0]
    if fits:
        hint = "Name one of them in full, or set precision in the model's YAML"
        raise ModelError(f"several models fit: {', '.join(fits)}", hint)
    if not recorded:
        raise ModelError("the lake has no embeddings", "Run 'embedlake embed'")
    raise ModelError(f"the lake has no embeddings by '{model}'", f"It has those of {', '.join(recorded)}")


def recorded_dimension(properties: Mapping[str, str], key: str) -> int:
    """The full dimension of a model's vectors in this table.

    Raises:
        ModelError: The model is not recorded, or without a dimension.
    """
    identity = recorded_models(properties).get(key)
    if identity is None:
        raise ModelError(
            f"the embeddings table does not know the model '{key}'", "Run 'embedlake embed' with it first"
        )
    try:
        return int(identity["dimension"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the embeddings table records no dimension for '{key}'") from error


def record_model(table: Table, key: str, identity: Mapping[str, Any]) -> None:
    """Records a model on the embeddings table, or checks that its vectors are as long as the recorded ones.

    Safe from many jobs at once, and to be killed in: the property is there whole or not at all.

    Args:
        table: Refreshed in place.
        key: The model's key.
        identity: JSON values, `dimension` among them.

    Raises:
        ModelError: The table holds vectors of another dimension under this key.
        CommitError: Other jobs kept changing the table.
    """
    for _ in range(_ATTEMPTS):
        table.refresh()
        if key in recorded_models(table.properties):
            recorded = recorded_dimension(table.properties, key)
            if recorded != identity["dimension"]:
                raise ModelError(
                    f"the lake holds vectors of dimension {recorded} for '{key}', the model gives "
                    f"{identity['dimension']}",
                    "Give the model another name, or use another namespace (--set lake.namespace=NAME)",
                )
            return
        try:
            with table.transaction() as transaction:
                transaction.set_properties({MODEL_PROPERTY + key: json.dumps(dict(identity), sort_keys=True)})
        except CommitFailedException:
            continue  # another job committed first; perhaps this very property
    raise CommitError("the embeddings table was changed by others again and again", "Run again")
