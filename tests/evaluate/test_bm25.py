from pipelines.evaluate.bm25 import bm25_rankings

DOCUMENTS = [
    "The lake froze over in January.",
    "Rotating the keys of the store.",
    "",
    "A key rotates; rotating keys is what the store does with each key.",
    "The lake froze over in January.",
]


def ranked(*queries: str, k: int = 10) -> list[list[int]]:
    return bm25_rankings(DOCUMENTS, queries, k, k1=0.9, b=0.4)


def test_documents_that_share_words_are_found_by_their_stems() -> None:
    assert ranked("how to rotate a key") == [[3, 1]]


def test_equal_documents_come_in_order_and_no_more_than_asked_for() -> None:
    assert ranked("frozen lakes") == [[0, 4]]
    assert ranked("frozen lakes", k=1) == [[0]]


def test_a_query_without_a_known_word_finds_nothing() -> None:
    assert ranked("the", "zebra", "lake") == [[], [], [0, 4]]


def test_a_corpus_without_words_has_nothing_to_find() -> None:
    assert bm25_rankings(["", "the"], ["lake"], 5, k1=0.9, b=0.4) == [[]]
