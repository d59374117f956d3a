"""Small tasks of each of mteb's types, defined here, so that no hub is asked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tokenizers
from datasets import Dataset, DatasetDict
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering_legacy import AbsTaskClusteringLegacy
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.text.summarization import AbsTaskSummarization

from pipelines.encoder.conf import TOKENIZER_FILE, load_model_conf, model_folder
from pipelines.encoder.encoded import Encoded
from pipelines.encoder.model import Encoder
from pipelines.encoder.ragged import Ragged
from pipelines.errors import ConfigError, InputError
from pipelines.evaluate.roles import role_of
from pipelines.evaluate.tasks import evaluate_tasks, load_tasks
from pipelines.progress import Silent

NOMIC = {
    "document": "search_document",
    "query": "search_query",
    "clustering": "clustering",
    "classification": "classification",
}
FISH = ["a trout swims in the river", "salmon and trout", "the pike is a fish", "a carp in the pond"]
BREAD = ["bread from the oven", "dough with yeast", "a loaf of rye bread", "the baker kneads dough"]


def metadata(name: str, task_type: Any, main_score: str) -> TaskMetadata:
    return TaskMetadata(
        name=name,
        type=task_type,
        main_score=main_score,
        description="A task of this test, with data of its own.",
        reference="https://example.com",
        dataset={"path": "none", "revision": "none"},
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2026-01-01", "2026-01-01"),
        dialect=[],
        domains=[],
        task_subtypes=[],
        license="cc-by-4.0",
        annotations_creators="derived",
        modalities=["text"],
        sample_creation="found",
        bibtex_citation="",
    )


class Classify(AbsTaskClassification):
    metadata = metadata("EmbedlakeClassify", "Classification", "accuracy")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        labelled = {"text": FISH + BREAD, "label": [0] * 4 + [1] * 4}
        self.dataset = DatasetDict(train=Dataset.from_dict(labelled), test=Dataset.from_dict(labelled))
        self.data_loaded = True


class Cluster(AbsTaskClusteringLegacy):
    metadata = metadata("EmbedlakeCluster", "Clustering", "v_measure")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        sets = {"sentences": [FISH + BREAD], "labels": [[0] * 4 + [1] * 4]}
        self.dataset = DatasetDict(test=Dataset.from_dict(sets))
        self.data_loaded = True


class Pairs(AbsTaskPairClassification):
    metadata = metadata("EmbedlakePairs", "PairClassification", "max_ap")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        pairs = {"sentence1": FISH, "sentence2": [*FISH[:2], *BREAD[:2]], "labels": [1, 1, 0, 0]}
        self.dataset = DatasetDict(test=Dataset.from_dict(pairs))
        self.data_loaded = True


class Similar(AbsTaskSTS):
    """Identical pairs score highest, strangers lowest."""

    metadata = metadata("EmbedlakeSimilar", "STS", "cosine_spearman")
    min_score, max_score = 0, 2

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        pairs = {
            "sentence1": [FISH[0], FISH[1], FISH[2]],
            "sentence2": [FISH[0], "trout and salmon fishing", BREAD[0]],
            "score": [2, 1, 0],
        }
        self.dataset = DatasetDict(test=Dataset.from_dict(pairs))
        self.data_loaded = True


class Summaries(AbsTaskSummarization):
    metadata = metadata("EmbedlakeSummaries", "Summarization", "cosine_spearman")
    min_score, max_score = 0, 2

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        texts = {
            "text": ["about fish", "about bread"],
            "human_summaries": [[FISH[0]], [BREAD[0]]],
            "machine_summaries": [[FISH[0], FISH[1], BREAD[1]], [FISH[3], BREAD[2], BREAD[0]]],
            "relevance": [[2, 1, 0], [0, 1, 2]],
        }
        self.dataset = DatasetDict(test=Dataset.from_dict(texts))
        self.data_loaded = True


def splits() -> dict[str, dict[str, RetrievalSplitData]]:
    corpus = [{"id": f"d{place}", "title": "", "text": text} for place, text in enumerate(FISH + BREAD)]
    queries = [{"id": "q0", "text": "trout swimming in a river"}, {"id": "q1", "text": "loaves of rye bread"}]
    split = RetrievalSplitData(
        corpus=Dataset.from_list(corpus),
        queries=Dataset.from_list(queries),
        relevant_docs={"q0": {"d0": 1}, "q1": {"d6": 1}},
        top_ranked=None,
    )
    return {"default": {"test": split}}


class Find(AbsTaskRetrieval):
    metadata = metadata("EmbedlakeFind", "Retrieval", "ndcg_at_10")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        self.dataset = splits()
        self.data_loaded = True


class Rerank(AbsTaskRetrieval):
    metadata = metadata("EmbedlakeRerank", "Reranking", "map_at_1000")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        self.dataset = splits()
        self.dataset["default"]["test"]["top_ranked"] = {"q0": ["d0", "d4"], "q1": ["d1", "d6"]}
        self.data_loaded = True


class Unreachable(AbsTaskSTS):
    metadata = metadata("EmbedlakeUnreachable", "STS", "cosine_spearman")

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
        raise ConnectionError("no route\nto the hub")


class Reading(Encoder):
    """Remembers the rows that it reads."""

    read: list[list[int]]

    def encode(
        self, rows: Sequence[npt.NDArray[np.integer]] | Ragged, batch_tokens: int | None = None
    ) -> Encoded:
        self.read += [row.tolist() for row in rows]
        return super().encode(rows, batch_tokens)

    def texts(self) -> list[str]:
        """What the rows say."""
        file = model_folder(self.conf) / TOKENIZER_FILE
        return [
            text.replace(" ", "")
            for text in tokenizers.Tokenizer.from_file(str(file)).decode_batch(self.read)
        ]


def reader(prefixes: dict[str, str]) -> Reading:
    conf = load_model_conf("minilm").model_copy(update={"prefixes": prefixes})
    made = Reading.load(conf, device="cpu", precision="float32")
    made.read = []
    return made


@pytest.fixture(scope="module")
def nomic_like() -> Reading:
    return reader(NOMIC)


@pytest.mark.parametrize(
    ("task", "prefixes", "least"),
    [
        (Classify, {"classification"}, 0.8),
        (Cluster, {"clustering"}, 0.5),
        (Pairs, {"classification"}, 1.0),
        (Similar, {"classification"}, 1.0),
        (Summaries, {"classification"}, 0.9),
        (Find, {"search_query", "search_document"}, 1.0),
        (Rerank, {"classification"}, 1.0),
    ],
)
def test_a_task_of_each_type_is_read_with_its_prefix_and_scored(
    nomic_like: Reading, task: type[AbsTask], prefixes: set[str], least: float
) -> None:
    nomic_like.read = []
    report = evaluate_tasks(nomic_like, [task()], (384, 128), Silent())
    texts = nomic_like.texts()
    assert {text.partition(":")[0] for text in texts} == prefixes
    assert len(texts) == len(set(texts)), "a text is encoded once for all dimensions"
    assert [(row.task, row.dim) for row in report.rows] == [(task.metadata.name, dim) for dim in (384, 128)]
    assert all(least - 1e-9 <= row.score <= 1 + 1e-9 for row in report.rows)


def test_queries_and_documents_get_their_own_prefixes(nomic_like: Reading) -> None:
    nomic_like.read = []
    evaluate_tasks(nomic_like, [Find()], (64,), Silent())
    texts = nomic_like.texts()
    assert "search_query:troutswimminginariver" in texts
    assert "search_document:atroutswimsintheriver" in texts


@pytest.mark.parametrize("task", [Find, Rerank, Classify])
def test_a_model_without_a_role_reads_documents_and_queries(task: type[AbsTask]) -> None:
    plain = reader({"document": "passage", "query": "ask"})
    evaluate_tasks(plain, [task()], (384,), Silent())
    heads = {text.partition(":")[0] for text in plain.texts()}
    assert heads == ({"passage"} if task is Classify else {"passage", "ask"})


def test_quora_s_questions_are_queries_on_both_sides() -> None:
    conf = load_model_conf("nomic-embed-text-v1.5")
    assert role_of(conf, "QuoraRetrieval", "Retrieval", "document") == "query"
    assert role_of(conf, "QuoraRetrieval", "Retrieval", "query") == "query"
    assert role_of(conf, "NFCorpus", "Retrieval", "document") == "document"
    assert role_of(conf, "Other", "BitextMining", None) == "document"


def test_the_report_has_a_column_for_each_dimension(nomic_like: Reading) -> None:
    report = evaluate_tasks(nomic_like, [Similar(), Pairs()], (384, 64), Silent())
    assert "| EmbedlakeSimilar | STS | cosine_spearman | 100.00 | 100.00 |" in report.as_markdown()
    assert "| mean | | | " in report.as_markdown()
    assert report.as_json()["rows"][0]["score"] == pytest.approx(1)
    assert report.max_tokens == 256


def test_unknown_tasks_are_told_with_the_nearest() -> None:
    assert [task.metadata.name for task in load_tasks(["NFCorpus", "SummEval"])] == ["NFCorpus", "SummEval"]
    with pytest.raises(ConfigError, match="Did you mean: 'NFCorpus'"):
        load_tasks(["NFCorpuss"])
    with pytest.raises(ConfigError, match="no task is named"):
        load_tasks([])


def test_a_task_whose_data_cannot_be_had_is_told(nomic_like: Reading) -> None:
    with pytest.raises(
        InputError, match="'EmbedlakeUnreachable' can neither be found here nor fetched: no route"
    ):
        evaluate_tasks(nomic_like, [Unreachable()], (384,), Silent())
