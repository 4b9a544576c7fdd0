"""What the server answers: the page and its files, the images of the project, edits, searches, training, export.

bottle and waitress were chosen because they are small and well kept: bottle is one file without dependencies, waitress
a server in pure Python that refuses a body that is too large before it reads it. Flask would bring six more packages
for templates, sessions and a command line, none of which is used here.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bottle

from ...errors import BackendError, DataError
from ...imaging.segment import DIAMETER_LIMITS
from .edit import EditError
from .export import write_zip
from .finding import Search, find
from .guard import HEADERS, Guard
from .project import Project, StoredImage
from .reading import read_upload
from .requests import (
    MAX_UPLOAD,
    BadRequest,
    channel_of,
    display_name,
    flag,
    optional_number,
    patch_of,
    read_bytes,
    read_json,
    texts,
    whole_number,
)
from .training import Training
from .worker import Busy, Worker

PAGE = Path(__file__).with_name("page")
SHIPPED = "shipped"
# The status of an answer for each kind of error; its message is for the person who uses the page.
STATUS = {BadRequest: 400, Busy: 409, DataError: 422, BackendError: 500, MemoryError: 507, OSError: 507}


@dataclass
class Session:
    """What the server works on."""

    project: Project
    worker: Worker = field(default_factory=Worker)
    lock: threading.Lock = field(default_factory=threading.Lock)  # of uploads, training and the export

    def __post_init__(self) -> None:
        self.training = Training(self.project.folder / "training")

    def image(self, id_: str) -> StoredImage:
        image = self.project.image(id_)
        if image is None:
            raise bottle.HTTPError(404, "this image is not in the project any more; reload the page")
        return image

    def idle_image(self, id_: str) -> StoredImage:
        """An image that no search is about to change."""
        image = self.image(id_)
        if image.busy:
            raise Busy(f"busy: the nuclei of {image.entry.name} are being searched; wait for its end or stop it")
        return image

    def weights(self, id_: object) -> Path | None:
        """The file of the chosen weights; None for the shipped ones."""
        return None if id_ in (SHIPPED, None) else self.training.weights_file(str(id_))

    def state(self) -> dict:
        """Everything that the page shows besides images and outlines."""
        weights = [{"id": SHIPPED, "title": "Shipped with tinynet"}, *self.training.weights()]
        return {
            "folder": str(self.project.folder.absolute()),
            "images": [image.summary() for image in self.project.images()],
            "weights": weights,
            "computation": self.worker.status(),
            "training": self.training.status(),
            "maxUpload": MAX_UPLOAD,
        }

    def close(self) -> None:
        self.worker.close()
        self.training.close()
        self.project.save()


def make_app(session: Session, guard: Guard) -> bottle.Bottle:
    """The WSGI application."""
    app = bottle.Bottle()
    app.default_error_handler = answer_error
    app.install(errors_as_sentences)
    app.add_hook("before_request", lambda: _before(guard))
    app.add_hook("after_request", lambda: bottle.response.headers.update(HEADERS))
    add_page(app, guard)
    add_images(app, session)
    add_edits(app, session)
    add_export(app, session)
    add_computations(app, session)
    return app


def _before(guard: Guard) -> None:
    request = bottle.request
    if not (request.path == "/" and request.method == "GET" and "token" in request.query):
        guard.check(request)
    else:
        guard.check_host(request)


def errors_as_sentences(function: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that a person can correct become an answer with their message."""

    def answer(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except tuple(STATUS) as error:
            status = next(number for kind, number in STATUS.items() if isinstance(error, kind))
            raise bottle.HTTPError(status, str(error) or type(error).__name__) from error

    return answer


def answer_error(error: bottle.HTTPError) -> str:
    """An error as JSON. bottle calls it for its own errors too, such as an unknown address."""
    bottle.response.headers.update(HEADERS)
    bottle.response.content_type = "application/json"
    message = (
        error.body if error.status_code != 500 or not error.exception else f"mistake in the server: {error.exception!r}"
    )
    return json.dumps({"error": str(message)})


# ---------------------------------------------------------------------------------------- the page
def add_page(app: bottle.Bottle, guard: Guard) -> None:
    @app.get("/")
    def page() -> Any:
        if "token" in bottle.request.query:
            return guard.enter(bottle.request.query.token)
        return bottle.static_file("index.html", root=PAGE)

    @app.get("/page/<name:re:[a-z]+\\.(?:js|css|svg)>")
    def page_file(name: str) -> Any:
        return bottle.static_file(name, root=PAGE)


# ---------------------------------------------------------------------------------------- images
def add_images(app: bottle.Bottle, session: Session) -> None:
    @app.get("/api/state")
    def state() -> dict:
        return session.state()

    @app.post("/api/images")
    def upload() -> dict:
        query = bottle.request.query
        channel, project = channel_of(query.channel), query.project == "max"
        with session.lock:  # one after the other: each takes memory
            data = read_bytes(bottle.request)
            planes = read_upload(data, display_name(query.name), channel, project)
            added = [session.project.add(plane) for plane in planes]
        return {"images": [image.summary() for image in added]}

    @app.delete("/api/images/<id_>")
    def remove(id_: str) -> dict:
        session.project.remove(session.idle_image(id_))
        return {}

    @app.get("/api/images/<id_>/<name:re:view|thumbnail>.png")
    def drawing(id_: str, name: str) -> Any:
        return bottle.static_file(f"{name}.png", root=session.image(id_).folder)

    @app.get("/api/images/<id_>/outlines")
    def outlines(id_: str) -> dict:
        image = session.image(id_)
        with image.lock:
            return {"outlines": image.outlines(), "image": image.summary()}


# ---------------------------------------------------------------------------------------- corrections
def add_edits(app: bottle.Bottle, session: Session) -> None:
    @app.post("/api/images/<id_>/edit")
    def edit(id_: str) -> dict:
        image, fields = session.idle_image(id_), read_json(bottle.request)
        with image.lock:
            if fields.get("operation") == "undo":
                changed = image.undo()
            elif fields.get("operation") == "redo":
                changed = image.redo()
            else:
                try:
                    changed = image.edit(lambda labels: patch_of(fields, labels), corrected=True)
                except EditError as error:  # the person drew something that makes no sense; the request is right
                    return {"refused": str(error), "image": image.summary()}
            return {"outlines": changed, "image": image.summary()}

    @app.post("/api/images/<id_>/corrected")
    def corrected(id_: str) -> dict:
        image = session.idle_image(id_)
        image.change(corrected=flag(read_json(bottle.request), "corrected"))
        return {"image": image.summary()}


# ---------------------------------------------------------------------------------------- export
def add_export(app: bottle.Bottle, session: Session) -> None:
    @app.get("/api/export.zip")
    def export() -> Any:
        with session.lock:
            file = tempfile.TemporaryFile()  # noqa: SIM115 (bottle closes it when it is sent)
            try:
                write_zip(file, session.project.images())
            except BaseException:
                file.close()
                raise
        size = file.tell()
        file.seek(0)
        bottle.response.content_type = "application/zip"
        bottle.response.set_header("Content-Disposition", 'attachment; filename="nuclei.zip"')
        bottle.response.content_length = size
        return file


# ---------------------------------------------------------------------------------------- computations
def add_computations(app: bottle.Bottle, session: Session) -> None:
    @app.post("/api/find")
    def start_search() -> dict:
        fields = read_json(bottle.request)
        images = [session.image(id_) for id_ in texts(fields, "images")]
        if not images:
            raise BadRequest("images: need at least one")
        search = Search(
            optional_number(fields, "diameter", *DIAMETER_LIMITS),
            optional_number(fields, "minArea", 0, 1e6),
            flag(fields, "excludeBorder"),
            flag(fields, "flips"),
            session.weights(fields.get("weights")),
        )
        with session.lock:
            if session.training.running:
                raise Busy("busy: training runs; wait for its end or stop it")
            title = images[0].entry.name if len(images) == 1 else f"{len(images)} images"
            session.worker.start(f"finding nuclei in {title}", lambda worker: find(images, search, worker), images)
        return session.state()

    @app.post("/api/train")
    def train() -> dict:
        fields = read_json(bottle.request)
        epochs = whole_number(fields, "epochs", 10_000)
        with session.lock:
            if session.worker.running:
                raise Busy("busy: nuclei are being searched; wait for the end or stop the search")
            if session.training.running:
                raise Busy("busy: training runs; wait for its end or stop it")
            chosen = [image for image in session.project.images() if image.entry.corrected and image.entry.nuclei]
            session.training.start(chosen, epochs, session.weights(fields.get("weights")))
        return session.state()

    @app.post("/api/stop")
    def stop() -> dict:
        session.worker.stop()
        session.training.stop()
        return session.state()
