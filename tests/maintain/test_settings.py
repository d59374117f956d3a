"""Settings that would harm are refused, with the reason."""

import pytest

from pipelines.config import parse
from pipelines.embed.commit import salvage
from pipelines.errors import ConfigError
from pipelines.maintain.config import SALVAGE_DAYS, MaintainConfig


def test_orphans_younger_than_what_embed_salvages_are_not_touched_by_any_setting() -> None:
    assert SALVAGE_DAYS == salvage._DAYS
    assert MaintainConfig().orphan_days > SALVAGE_DAYS
    for days in (1, SALVAGE_DAYS):
        with pytest.raises(ConfigError, match=r"orphan_days.*at least 8.*'embed' commits files"):
            parse(MaintainConfig, {"orphan_days": days}, "a file")
