"""Search: rows scanned a second from the table, beside a matrix product over vectors in memory."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import StringType

from pipelines.encoder.conf import load_model_conf
from pipelines.encoder.fingerprint import describe_model
from pipelines.lake import Lake, LakeConfig
from pipelines.lake.commit import append_files
from pipelines.lake.datafiles import ParquetLayout, write_data_file
from pipelines.search.search import search
from tests.benchmarks.measure import fastest, measured

_ROWS, _BUCKETS = 200_000, 4
