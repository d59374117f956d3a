"""What several tests of training begin with."""

from pathlib import Path

import pytest

from pipelines.cluster.session import RaySession
from tests.train.place import Place


@pytest.fixture
def place(tmp_path: Path, ray_session: RaySession) -> Place:
    del ray_session
    return Place(tmp_path, steps=8, batch=16, texts=4)
