"""`serve`: sessions for viewers, web pages and programs, on this machine only unless told."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import CorrectorName, DeviceName, ModelName

if TYPE_CHECKING:
    from segvol_gru.interfaces.server.service import Service

KEY_VARIABLE = "SEGVOL_GRU_API_KEY"
KEEP_ALIVE_S = 75
"""An unused connection lives longer here than in clients (5 s), lest we hang up as they speak."""
HOST = typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
PORT = typer.Option(help="0 for any free one.", min=0, max=65535)
STORE = typer.Option(help="Folder for sessions; they survive a restart. Default: the user's data.")
INDEX = typer.Option(help="Database of sessions, SQLAlchemy's address. Default: SQLite in STORE.")
KEY = typer.Option(help="What clients must present.", envvar=KEY_VARIABLE, show_envvar=True)
ALLOW = typer.Option(help="Name under which others address this machine; repeat it.")
SESSIONS = typer.Option(help="Sessions open at a time.", min=1)
MEMORY = typer.Option(
    help="Megabytes of voxels in all open sessions; uploads on the way may take as many.", min=1
)
UPLOAD = typer.Option(help="Megabytes of one image.", min=1)
IDLE = typer.Option(help="Seconds after which an unused session waits on disk.", min=1)


def serve(
    host: Annotated[str, HOST] = "127.0.0.1",
    port: Annotated[int, PORT] = 1527,
    store: Annotated[Path | None, STORE] = None,
    index: Annotated[str | None, INDEX] = None,
    api_key: Annotated[str | None, KEY] = None,
    allow_host: Annotated[list[str] | None, ALLOW] = None,
    max_sessions: Annotated[int, SESSIONS] = 8,
    memory: Annotated[int, MEMORY] = 4096,
    max_upload: Annotated[int, UPLOAD] = 1024,
    idle: Annotated[float, IDLE] = 600.0,
    model: ModelName = "default",
    corrector: CorrectorName = "field",
    device: DeviceName = "auto",
) -> None:
    """Serve sessions over HTTP: our own API, 3D Slicer, napari."""
    try:
        import uvicorn

        from segvol_gru.interfaces.server.app import make_app
        from segvol_gru.interfaces.server.guard import LOOPBACK, Gate
        from segvol_gru.interfaces.server.limits import MB, Limits
    except ImportError as error:
        raise InputError(
            f"{error.name} is missing; install the server by pip install 'segvol-gru[server]'."
        ) from None
    limits = Limits(
        max_sessions=max_sessions,
        max_bytes=memory * MB,
        max_upload_bytes=max_upload * MB,
        idle_s=idle,
    )
    local = host in LOOPBACK
    hosts = LOOPBACK | set(allow_host or ()) if local or allow_host else None
    bodies = max(limits.max_bytes, limits.max_upload_bytes)
    gate = Gate(api_key, hosts, limits.max_upload_bytes, bodies)
    with _listen(host, port) as listening:
        service = _service(store, index, limits, (model, corrector, device))
        app = make_app(service, gate)
        _announce(_reachable(host, allow_host), listening.getsockname()[1], local)
        if not local and api_key is None:
            console.refuse(f"whoever reaches this server can use it; set {KEY_VARIABLE}.")
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error.strerror}); give another --port."
        ) from None
    # asyncio does this for sockets of another kind only; without it an answer waits 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _service(
    store: Path | None, index: str | None, limits: object, networks: tuple[str, str, str]
) -> Service:
    """The sessions of a store."""
    from dataclasses import replace

    from platformdirs import user_data_path

    from segvol_gru.data.files import make_folder
    from segvol_gru.interfaces.server.index import Index
    from segvol_gru.interfaces.server.limits import Limits
    from segvol_gru.interfaces.server.service import Service
    from segvol_gru.pretrained import load_model, model_folder, read_licence
    from segvol_gru.session.engine import pick_device

    assert isinstance(limits, Limits)
    name, corrector, device = networks
    place = pick_device(device)
    model = load_model(name, corrector)
    model = replace(model, base=model.base.to(place), corrector=model.corrector.to(place))
    folder = make_folder((store or user_data_path("segvol-gru") / "sessions").absolute())
    licence = read_licence(model_folder(name) / "base.safetensors") or "unknown"
    known = Index(index or f"sqlite:///{folder / 'index.db'}")
    return Service(model, folder / "journals", known, limits, licence)


def _reachable(host: str, names: list[str] | None) -> str:
    """What others type to reach a server that listens on `host`."""
    if host in ("0.0.0.0", "::"):
        return names[0] if names else socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _announce(name: str, port: int, local: bool) -> None:
    """Say where the server is, exactly as it is to be typed."""
    lines = [f"segvol-gru serves http://{name}:{port}/"]
    if local:
        to = f"{os.environ.get('USER', 'USER')}@{socket.gethostname()}"
        lines.append(f"from another machine: ssh -L {port}:{name}:{port} {to}")
    for line in lines:
        console.out.print(line, soft_wrap=True, highlight=False)
