"""The command line of the server: where it listens, where the project is kept, how it starts and ends."""

from __future__ import annotations

import contextlib
import logging
import signal
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError, how_to_install
from ...files import locked
from ...tools.cli import option

HOST = "127.0.0.1"  # this computer only


@dataclass
class ServeConfig:
    """The flags of `serve`."""

    out: str = option("out/nuclei_project", "project folder: images, corrections and trained weights are kept there")
    port: int = option(8123, "port of the address; 0 for any that is free")
    browser: bool = option(True, "open the page in the browser")

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ValueError(f"--port is {self.port}; it must lie in 0 .. {2**16 - 1}")


def serve(config: ServeConfig) -> None:
    """Open a page in the browser: find nuclei, correct them, export them, train on the corrections. Ctrl-C ends it."""
    try:
        import bottle  # noqa: F401
        import waitress
    except ImportError as error:
        raise UsageError(f"the server needs bottle and waitress; {how_to_install('serve')} installs them") from error
    from .app import Session, make_app
    from .guard import Guard
    from .project import Project
    from .requests import MAX_UPLOAD

    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a page of many thumbnails is no reason to warn
    folder = Path(config.out)
    with contextlib.ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(locked(folder / ".lock", wait=False))
        except BlockingIOError:
            raise UsageError(
                f"--out {folder}: another server uses this project; end it or choose another folder"
            ) from None
        session = Session(Project(folder))
        stack.callback(session.close)
        settings = {"host": HOST, "port": config.port, "threads": 4, "max_request_body_size": MAX_UPLOAD, "ident": None}
        try:
            listener = waitress.create_server(lambda *call: app(*call), **settings)
        except OSError as error:
            raise UsageError(f"--port {config.port}: {error.strerror}; choose another port, or 0 for any") from error
        stack.callback(listener.close)
        guard = Guard(listener.effective_port)
        app: Any = make_app(session, guard)
        print(f"project: {folder.absolute()}\n\n    {guard.address}\n\nCtrl-C ends the server.", flush=True)
        if config.browser:
            entrance = folder.absolute() / "open.html"
            stack.callback(entrance.unlink, missing_ok=True)
            guard.write_entrance(entrance)
            webbrowser.open(entrance.as_uri())
        _end_as_by_ctrl_c()
        with contextlib.suppress(KeyboardInterrupt):
            listener.run()  # until Ctrl-C
    print("\nThe server has ended; the project is kept.")


def _end_as_by_ctrl_c() -> None:
    """End the server in order also if it is told to end or its terminal is closed: a training would run on alone."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP, and nohup ignores it
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
