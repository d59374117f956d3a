"""Listens, and serves the application until it is told to stop."""

import errno
import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from pipelines.encoder.conf import ModelConf
from pipelines.errors import ConfigError, EnvironmentFault
from pipelines.lake import Lake
from pipelines.lake.faults import explained
from pipelines.progress import Progress
from pipelines.search.config import SearchConfig
from pipelines.search.serve.app import make_app
from pipelines.search.serve.desk import Desk
from pipelines.search.serve.overview import overview

_GRACE_SECONDS = 3  # for answers that are on their way when it is told to stop
_ANOTHER = "Choose another: --port N (search.port)"


def serve(
    lake: Lake,
    conf: ModelConf,
    config: SearchConfig,
    progress: Progress,
    listening: Callable[[str], None],
) -> None:
    """Serves a lake until SIGINT or SIGTERM, which it passes on once answers under way are given.

    Args:
        lake: The lake.
        conf: The model that its embeddings are searched by.
        config: Where to listen, and how vectors are looked through.
        progress: Told of the loading, and of what is risky.
        listening: Told the address, once requests are answered.

    Raises:
        EnvironmentFault: The port is taken, or may not be used.
        ConfigError: There is no such interface.
        EmbedlakeError: Nothing in the lake can be searched, or its model cannot be loaded.
    """
    with explained(lake.config), bound_socket(config.host, config.port) as listener:
        found = overview(lake, conf)
        for name, fault in found.faults.items():
            progress.say(f"{name} cannot be searched: {fault}")
        desk = Desk(lake, conf, config)
        with progress.step("loading the model", None, "models"):
            desk.load(found.tables[0].name)
        tell_risk(config.host, progress)
        app = make_app(desk, known_names(config.host))
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        listening(address(config.host, config.port))
        server.run(sockets=[listener])


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens, so that a caller can connect from now on.

    Raises:
        EnvironmentFault: The port is taken, or may not be used.
        ConfigError: There is no such interface.
    """
    try:
        kind, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=kind, backlog=128)
    except socket.gaierror as error:
        raise ConfigError(
            f"there is no interface '{host}': {error.strerror}", "Correct --host (search.host)"
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise EnvironmentFault(f"the port {port} of {host} is taken", _ANOTHER) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise EnvironmentFault(f"the port {port} of {host} may not be used", _ANOTHER) from error
        raise ConfigError(
            f"{host} is no interface of this machine: {error.strerror}", "Correct --host (search.host)"
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may stand for anything
        return False


def tell_risk(host: str, progress: Progress) -> None:
    """Warns where other machines may reach the lake."""
    if not is_loopback(host):
        progress.say(
            f"warning: {host} may be reached from other machines, and there is no authentication: whoever "
            "reaches the port can search the lake and read its documents"
        )


def known_names(host: str) -> list[str]:
    """Names that requests may call the server by; any where other machines have names of their own for it."""
    if not is_loopback(host):
        return ["*"]
    return sorted({_bracketed(host.lower()), "localhost", "127.0.0.1", "[::1]"})


def address(host: str, port: int) -> str:
    """What to type into a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - told apart, not bound
    return f"http://{_bracketed(shown)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
