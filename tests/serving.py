"""A server of `tinynet nuclei serve` for tests: called without a network, or run in a thread for a browser."""

from __future__ import annotations

import io
import json
import threading
from contextlib import contextmanager
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest
from PIL import Image
from skimage.draw import disk

bottle = pytest.importorskip("bottle", reason="the extra 'serve' is not installed")
waitress = pytest.importorskip("waitress", reason="the extra 'serve' is not installed")

from tinynet.data import to_rgb8  # noqa: E402
from tinynet.imaging.instances import connected_components, drop_small, otsu_foreground  # noqa: E402
from tinynet.nuclei import net, segmentation  # noqa: E402
from tinynet.nuclei.segmentation import Nuclei  # noqa: E402
from tinynet.nuclei.serve.app import Session, make_app  # noqa: E402
from tinynet.nuclei.serve.guard import Guard  # noqa: E402
from tinynet.nuclei.serve.project import Project  # noqa: E402

PORT = 8123
CENTERS = ((30, 30), (30, 70), (80, 40), (80, 56), (90, 110))  # (y, x); the third and the fourth disc overlap
RADIUS = 10


def discs_png(size=(128, 160)):
    """Five bright discs on a dark background, two of which are one for Otsu's threshold; bytes of a PNG file."""
    pixels = np.full(size, 20, np.uint8)
    for center in CENTERS:
        pixels[disk(center, RADIUS, shape=size)] = 200
    return png(pixels)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def segment_fast(net, images, diameter=None, flips=True, min_area=None, exclude_border=False, progress=None):
    """In place of the net: it would take seconds, and its kernels have tests of their own."""
    progress(1, 2)
    found = [connected_components(otsu_foreground(to_rgb8(image))) for image in images]
    return [Nuclei(drop_small(labels, int(min_area or 1)), diameter or 20.0, "") for labels in found]


@pytest.fixture
def no_net(monkeypatch):
    monkeypatch.setattr(segmentation, "segment_many", segment_fast)
    monkeypatch.setattr(net, "kept_net", lambda weights: None)


class Client:
    """Calls the application of a session as its page does. `status`, `headers`: of the last answer."""

    def __init__(self, folder):
        self.session = Session(Project(folder))
        self.guard = Guard(PORT, "secret")
        self.app = make_app(self.session, self.guard)
        self.cookie = f"{self.guard.cookie}=secret"

    def ask(self, method, path, body=b"", read=None, **headers):
        """The body of the answer. headers: replace those of a browser; None leaves one out."""
        path, _, query = path.partition("?")
        sent = {"HOST": f"127.0.0.1:{PORT}", "COOKIE": self.cookie, "SEC_FETCH_SITE": "same-origin"}
        if method != "GET":
            sent["ORIGIN"] = f"http://127.0.0.1:{PORT}"
        sent |= headers
        environ = {f"HTTP_{name}": value for name, value in sent.items() if value is not None}
        environ |= {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "wsgi.input": io.BytesIO(body)}
        environ |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
        environ |= {name: value for name, value in headers.items() if name in ("CONTENT_LENGTH", "CONTENT_TYPE")}
        environ |= {"wsgi.input": read} if read else {}
        setup_testing_defaults(environ)

        def start(status, headers, problem=None):
            self.status, self.headers = int(status[:3]), dict(headers)

        answer = self.app(environ, start)
        try:
            return b"".join(answer)
        finally:
            getattr(answer, "close", lambda: None)()

    def get(self, path):
        return json.loads(self.ask("GET", path))

    def post(self, path, value, **headers):
        return json.loads(self.ask("POST", path, json.dumps(value).encode(), **headers))

    def upload(self, data, name="cells.png", **headers):
        return json.loads(self.ask("POST", f"/api/images?name={quote(name, safe='&=')}", data, **headers))

    def wait(self):
        """Until the computation has ended; its error."""
        while self.session.worker.running:
            threading.Event().wait(0.005)
        return self.session.worker.status()["error"]


@contextmanager
def running(folder):
    """The address of a server that runs in a thread."""
    session = Session(Project(folder))
    server = waitress.create_server(lambda *call: app(*call), host="127.0.0.1", port=0, threads=4)
    guard = Guard(server.effective_port)
    app = make_app(session, guard)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield guard.address
    finally:
        server.close()
        session.close()


@pytest.fixture
def client(tmp_path, no_net):
    client = Client(tmp_path / "project")
    yield client
    client.session.close()


@pytest.fixture
def searched(client):
    """A client whose image 0001 has four nuclei; two discs are one of them."""
    client.upload(discs_png())
    client.post("/api/find", {"images": ["0001"]})
    assert client.wait() == ""
    return client


def edit(client, **fields):
    return client.post("/api/images/0001/edit", fields)
