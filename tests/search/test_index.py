from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import ConfigError, ModelError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.config import SparkConfig
from pipelines.lake.vector_source import VectorSource
from pipelines.progress import Silent
from pipelines.publish.config import PublishConfig
from pipelines.publish.run import publish
from pipelines.search.config import SearchConfig
from pipelines.search.index import Built, build, recorded
from pipelines.search.indexed import Indexes, index_cache
from pipelines.search.scan import scan_top
from pipelines.search.search import Searcher
from tests.embed.deletes import delete_positions
from tests.publish.lakes import filled, hashed
from tests.search.conftest import Embedded
from tests.told import Told

CONFIG = SearchConfig(index_min_rows=100, index_probes=10_000)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes are fetched into a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def lake(local_config: LakeConfig) -> Lake:
    """800 vectors in four partitions, and a serving table of them."""
    lake = filled(local_config, documents=400)
    publish(lake, PublishConfig(table="serving", dim=16, type="float32"), SparkConfig())
    return lake


def built(lake: Lake, table: str = "serving", config: SearchConfig = CONFIG, rebuild: bool = False) -> Built:
    return build(lake, VectorSource.open(lake, table), config, Silent(), rebuild)


def compared(lake: Lake, table: str = "serving", k: int = 10) -> tuple[float, list[str]]:
    """The share of the exact answers that the indexes give, and what the search said."""
    source = VectorSource.open(lake, table)
    told = Told()
    x_Qd = source.query(hashed([f"{n:08x}" for n in range(20)]), source.dim)
    exact = scan_top(source, source.files(source.filter()), source.filter(), x_Qd, k)
    files = source.files(source.filter())
    found = Indexes(lake, source, CONFIG, told).top(files, source.filter(), False, x_Qd, k)
    both = [
        len({a.chunk_id for a in one} & {b.chunk_id for b in other})
        for one, other in zip(exact, found, strict=True)
    ]
    for one, other in zip(exact, found, strict=True):
        assert np.allclose([a.distance for a in one], [b.distance for b in other], atol=5e-3)
    return sum(both) / (k * len(both)), told.lines


@pytest.mark.parametrize("table", ["serving", "embeddings"])
def test_with_all_its_lists_looked_into_an_index_answers_as_the_rows_do(lake: Lake, table: str) -> None:
    report = built(lake, table)
    assert (report.built, report.kept, report.small, report.rows) == (4, 0, 0, 800)
    share, lines = compared(lake, table)
    assert share > 0.99  # float16 may swap neighbours
    assert lines == []


def test_a_build_again_builds_what_changed_and_nothing_else(lake: Lake) -> None:
    built(lake)
    snapshot = lake.table("indexes").metadata.current_snapshot_id
    assert (built(lake).kept, built(lake).built) == (4, 0)
    assert lake.table("indexes").metadata.current_snapshot_id == snapshot
    change(lake)
    again = built(lake)
    assert (again.built + again.kept, again.kept > 0) == (4, True)
    assert len(recorded(lake, VectorSource.open(lake, "serving"))) == 4
    assert compared(lake)[1] == []
    assert built(lake, rebuild=True).built == 4


def change(lake: Lake) -> None:
    """Takes a row of one partition out of the embeddings, and publishes that."""
    file = VectorSource.open(lake).files(None)[0]
    delete_positions(lake, "embeddings", file.path, [0], named=True)
    publish(lake, PublishConfig(table="serving", dim=16, type="float32"), SparkConfig())


def test_an_old_index_is_not_searched_and_the_search_says_so(lake: Lake) -> None:
    built(lake)
    change(lake)
    share, [line] = compared(lake)
    assert share > 0.99
    assert line.startswith(
        "1 of 4 partitions have no index of the files that they have (1 changed since snapshot"
    )
    assert "embedlake index --table serving" in line


def test_without_any_index_the_answer_is_exact_and_the_search_says_so(lake: Lake) -> None:
    share, [line] = compared(lake)
    assert share == 1.0
    assert "4 of 4 partitions" in line
    assert "none was built" in line


def test_small_partitions_get_no_index(lake: Lake) -> None:
    assert built(lake, config=SearchConfig(index_min_rows=10_000)).small == 4
    assert recorded(lake, VectorSource.open(lake, "serving")) == []


def test_an_index_that_was_changed_on_its_way_is_refused(lake: Lake) -> None:
    built(lake)
    compared(lake)
    assert len(list(index_cache().iterdir())) == 4
    table = lake.table("indexes")
    rows = table.scan().to_arrow()
    place = rows.schema.get_field_index("data")
    broken = [b"\0" * len(value) for value in rows["data"].to_pylist()]
    table.overwrite(rows.set_column(place, rows.schema.field(place), [broken]))
    compared(lake)  # those that are in the cache are whole
    for folder in index_cache().iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with pytest.raises(ModelError, match="not what was written"):
        compared(lake)


def test_a_searcher_takes_them_at_the_dimension_of_the_vectors_alone(embedded: Embedded) -> None:
    lake = embedded.lake
    told = Told()
    config = SearchConfig(index_min_rows=1_000)
    mine = Searcher.open(lake, embedded.conf, progress=told, config=config)
    exact = mine.search("what is a snapshot?", k=5)
    assert mine.search("what is a snapshot?", k=5, index=True) == exact
    assert any("none was built" in line for line in told.lines)
    with pytest.raises(ConfigError, match="an index knows the vectors at 384"):
        mine.search("what is a snapshot?", dim=64, index=True)
