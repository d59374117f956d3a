"""The serve job."""

from contextlib import ExitStack

from rich.console import Console

from jobs.console import ConsoleProgress
from jobs.settings import Settings
from pipelines.cluster.session import RaySession
from pipelines.encoder.conf import load_model_conf
from pipelines.lake import Lake
from pipelines.search.serve.server import serve


def run(settings: Settings) -> None:
    """Serves the page until Ctrl-C, and prints its address once it can be opened."""
    model = load_model_conf(settings.model)
    lake = Lake.open(settings.lake)
    with ExitStack() as stack:
        if settings.search.workers:
            stack.enter_context(RaySession(settings.ray)).start()
        serve(lake, model, settings.search, ConsoleProgress(Console(stderr=True)), _listening)


def _listening(address: str) -> None:
    # At once, into a pipe too: whoever started it waits for this line.
    print(f"listening on {address} (Ctrl-C ends it)", flush=True)  # noqa: T201 - a result
