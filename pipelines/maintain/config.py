"""Settings of the maintain stage."""

from pydantic import Field, field_validator

from pipelines.config import Config

# `embed` commits what a run that began up to a week ago had written and not committed. The day more is for
# one that is at it as the week ends.
SALVAGE_DAYS = 7
_LEAST_ORPHAN_DAYS = SALVAGE_DAYS + 1


class MaintainConfig(Config):
    """What is worth the work, and how long what is old is kept.

    Attributes:
        target_file_mib: Size that small files are joined to; larger ones are not split. A table that asks for
            smaller files gets these.
        min_input_files: So many small files of one partition are joined; fewer are left until there are.
        delete_ratio: A file of which so large a share of rows is deleted is written anew without them.
        delete_files: So is one that so many delete files speak of.
        min_manifests: So many small manifests are joined.
        expire_days: A snapshot goes when it has not been the table for so long. A job that reads a table
            longer than that may lose its files.
        retain_last: Latest snapshots that stay, however old.
        branch_days: A branch of a killed run of `curate` goes after so long.
        orphan_days: A file that no snapshot refers to goes when it is so old.
        attempts: How often a step is tried that others' commits have made fail.
    """

    target_file_mib: float = Field(default=128.0, gt=0)
    min_input_files: int = Field(default=5, ge=2)
    delete_ratio: float = Field(default=0.1, gt=0, le=1)
    delete_files: int = Field(default=10, ge=1)
    min_manifests: int = Field(default=10, ge=2)
    expire_days: float = Field(default=5.0, ge=0)
    retain_last: int = Field(default=5, ge=1)
    branch_days: float = Field(default=7.0, ge=0)
    orphan_days: float = 14.0
    attempts: int = Field(default=3, ge=1)

    @field_validator("orphan_days")
    @classmethod
    def _after_the_salvage(cls, value: float) -> float:
        if value < _LEAST_ORPHAN_DAYS:
            raise ValueError(
                f"must be at least {_LEAST_ORPHAN_DAYS}: for {SALVAGE_DAYS} days 'embed' commits files that "
                "a killed run has left, and until then they look like orphans"
            )
        return value
