import pytest

from pipelines.errors import ConfigError
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.filters import parsed_filter


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("colour = 'red'", "Could not find field with name colour."),
        ("source = ", "it is not a comparison"),
        ("source = 'x", "it is not a comparison"),
        ("source = 'x' and", "it is not a comparison"),
        ("", "it is not a comparison"),
        ("(" * 3000, "cannot be used"),
        ("ordinal = 'first'", "cannot be used"),
    ],
)
def test_a_filter_that_does_not_fit_is_told_with_the_columns_that_there_are(
    local_config: LakeConfig, where: str, reason: str
) -> None:
    lake = Lake.open(local_config)
    lake.ensure_tables()
    with pytest.raises(ConfigError) as caught:
        parsed_filter(lake.table("chunks"), where)
    assert reason in str(caught.value)
    assert "The table has chunk_id, " in str(caught.value)
    assert "case_sensitive" not in str(caught.value)
    assert "{" not in str(caught.value)  # as a parser's grammar has it
