"""Options that several commands share."""

from typing import Annotated

import typer

EPILOG = "Anywhere on the line: --profile local|s3|cluster, --lake DIR, --set a.b=c, --debug."

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Model = Annotated[str | None, typer.Option("--model", help="A name in conf/models, or a YAML file.")]
