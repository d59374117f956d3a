"""Settings of near dedup."""

from pydantic import Field, model_validator

from pipelines.config import Config


class NearConfig(Config):
    """Which documents are near duplicates.

    Attributes:
        enabled: Without it only equal texts are duplicates.
        threshold: Least Jaccard similarity of two near duplicates, over their sets of shingles.
        shingle_words: Words a shingle.
        permutations: Hash functions of the MinHash signature; `bands * rows`.
        bands: Two texts are compared where they agree in any band; at similarity J that is as good as
            1 - (1 - J**rows)**bands, 0.977 at 0.8 and 0.99997 at 0.9 by default.
        rows: Hash functions a band.
        bucket_whole: Texts that share a band are all compared with each other up to this many, by priority.
        bucket_leaders: The further ones, in a bucket of thousands (a template), only with this many first.
        driver_nodes: So many distinct texts the driver judges alone, which is quicker while they are few;
            decides nothing but where the work is done. By estimate 300 bytes of memory each.
    """

    enabled: bool = True
    threshold: float = Field(default=0.8, gt=0, le=1)
    shingle_words: int = Field(default=5, ge=1, le=100)
    permutations: int = Field(default=112, ge=1)
    bands: int = Field(default=16, ge=1)
    rows: int = Field(default=7, ge=1)
    bucket_whole: int = Field(default=512, ge=2)
    bucket_leaders: int = Field(default=16, ge=1)
    driver_nodes: int = Field(default=250_000, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> "NearConfig":
        if self.bands * self.rows != self.permutations:
            raise ValueError(
                f"bands x rows must be permutations: {self.bands} x {self.rows} is not {self.permutations}"
            )
        if self.bucket_leaders > self.bucket_whole:
            raise ValueError("bucket_leaders must be at most bucket_whole")
        return self
