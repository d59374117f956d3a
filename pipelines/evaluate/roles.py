"""Which of a model's prefixes a text gets in an MTEB task: nomic-embed-text's practice for MTEB v1.

Of a model that lacks the role (MiniLM knows documents and queries alone) a task's queries are `query`, and
all other texts are `document`.
"""

from pipelines.encoder.conf import ModelConf

# By the task's type; what is not here has queries and documents.
_ROLES = {
    "Classification": "classification",
    "MultilabelClassification": "classification",
    "PairClassification": "classification",
    "Reranking": "classification",
    "STS": "classification",
    "Summarization": "classification",
    "Clustering": "clustering",
}
# Tasks that look for questions like a question: both sides are queries.
_SYMMETRIC = {"QuoraRetrieval"}


def role_of(conf: ModelConf, task: str, task_type: str, side: str | None) -> str:
    """The role of a text, one that the model has a prefix for.

    Args:
        conf: The model.
        task: The task's name.
        task_type: As mteb names it.
        side: `query` or `document` where the task has two sides, else None.
    """
    fallback = "query" if side == "query" or task in _SYMMETRIC else "document"
    role = _ROLES.get(task_type, fallback)
    return role if role in conf.prefixes else fallback
