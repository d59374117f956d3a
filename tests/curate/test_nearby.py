"""What a small run looks up of the ledger: the rows with an id, a text or a band of its records."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.curate.ledger.nearby import Probe

IDS, HASHES, KEYS = st.sampled_from("abcd"), st.sampled_from("wxyz"), st.integers(-3, 3)
BANDS = st.one_of(st.none(), st.lists(KEYS, unique=True, max_size=3))
ROWS = st.lists(st.tuples(IDS, HASHES, BANDS), max_size=12)
Row = tuple[str, str, list[int] | None]


def table(rows: list[Row], large: bool) -> pa.Table:
    string = pa.large_string() if large else pa.string()
    list_ = pa.large_list(pa.int64()) if large else pa.list_(pa.int64())
    ids, hashes, bands = ([row[at] for row in rows] for at in range(3))
    columns = {"doc_id": pa.array(ids, string), "text_hash": pa.array(hashes, string)}
    return pa.table(columns | {"bands": pa.array(bands, list_)})


@given(ROWS, ROWS)
def test_what_is_found_is_what_shares_an_id_a_text_or_a_band(ledger: list[Row], records: list[Row]) -> None:
    probe = Probe.of(table(records, large=False))
    # pyiceberg hands out large types, Spark small ones; a slice has offsets that do not begin at 0.
    rows = table([("d", "z", [3]), *ledger], large=True).slice(1)
    ids, hashes = {row[0] for row in records}, {row[1] for row in records}
    keys = {key for row in records for key in row[2] or ()}
    expected = [row for row in ledger if row[0] in ids or row[1] in hashes or keys.intersection(row[2] or ())]
    found = probe.found(rows).to_pylist()
    assert [(one["doc_id"], one["text_hash"], one["bands"]) for one in found] == expected
