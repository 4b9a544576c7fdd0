"""What the server of `tinynet nuclei serve` refuses: files that are no images, others' requests, tricks in names."""

# ruff: noqa: F811 (an argument of a test has the name of its fixture)

import io
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import Client, client, discs_png, edit, no_net, searched  # noqa: F401 (fixtures)

from tinynet.nuclei.serve import requests
from tinynet.nuclei.serve.guard import Guard
from tinynet.nuclei.serve.requests import display_name


@pytest.mark.parametrize("data", [b"", b"hello", b"GIF89a" + bytes(20), discs_png()[:-50], b"PK\3\4" + bytes(40)])
def test_a_file_that_is_no_image_is_named(client, data):
    assert client.upload(data, "notes.png")["error"].startswith("notes.png: ") and client.status == 422
    assert client.get("/api/state")["images"] == []


class Unread(io.RawIOBase):
    """A body that must not be read."""

    def readable(self):
        return True

    def read(self, size=-1):
        raise AssertionError("the body was read")


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("/api/images?name=a.png", str(requests.MAX_UPLOAD + 1), 413),
        ("/api/images?name=a.png", "9" * 30, 413),
        ("/api/images?name=a.png", "", 411),
        ("/api/find", str(requests.MAX_JSON + 1), 413),
    ],
)
def test_a_body_that_is_too_large_is_not_read(client, path, length, status):
    client.ask("POST", path, read=Unread(), CONTENT_LENGTH=length)
    assert client.status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"HOST": "evil.example:8123"},
        {"HOST": "127.0.0.1"},
        {"HOST": "127.0.0.1:8124"},
        {"HOST": "evil.example:8123", "ORIGIN": "http://evil.example:8123"},
        {"HOST": None},
        {"ORIGIN": "http://evil.example"},
        {"ORIGIN": "http://127.0.0.1:8124"},
        {"ORIGIN": "null"},
        {"ORIGIN": None},
        {"SEC_FETCH_SITE": "cross-site"},
        {"SEC_FETCH_SITE": "same-site"},
        {"COOKIE": "tinynet-8123=wrong"},
        {"COOKIE": "tinynet-8124=secret"},
        {"COOKIE": None},
        {"COOKIE": 'tinynet-8123="\u00e4"'},
    ],
    ids=str,
)
def test_requests_from_elsewhere_are_refused(client, headers):
    answer = client.upload(discs_png(), **headers)
    assert client.status == 403 and answer["error"]
    if "ORIGIN" not in headers or "HOST" in headers:
        for path in ("/", "/page/main.js", "/api/state", "/api/export.zip", "/api/unknown"):
            client.ask("GET", path, **headers)
            assert client.status == 403, path
    assert client.get("/api/state")["images"] == []


def test_a_body_that_a_form_of_another_page_can_send_is_refused(client):
    assert "application/json" in client.post("/api/find", {}, CONTENT_TYPE="text/plain")["error"]
    assert client.status == 400


def test_the_token_of_the_address_becomes_a_cookie(client):
    document = client.ask("GET", "/?token=secret", COOKIE=None, SEC_FETCH_SITE="cross-site").decode()
    assert client.status == 200 and 'content="0; url=/"' in document and "secret" not in document
    cookie = client.headers["Set-Cookie"]
    assert cookie.startswith("tinynet-8123=secret") and "HttpOnly" in cookie and "SameSite=strict" in cookie
    client.ask("GET", "/?token=wrong", COOKIE=None)
    assert client.status == 403 and "Set-Cookie" not in client.headers
    client.ask("GET", "/?token=secret", COOKIE=None, HOST="evil.example:8123")
    assert client.status == 403
    assert Guard(1).token != Guard(1).token
    assert (Guard(80).hosts[0], Guard(80).origins[0]) == ("127.0.0.1", "http://127.0.0.1"), "as browsers write it"


def test_every_answer_has_the_headers_that_keep_others_out(client):
    for path in ("/", "/page/style.css", "/api/state", "/nothing", "/api/images/0009/view.png"):
        client.ask("GET", path)
        assert "default-src 'none'" in client.headers["Content-Security-Policy"], path
        assert client.headers["X-Content-Type-Options"] == "nosniff", path


@pytest.mark.parametrize(
    "path",
    [
        "/page/../app.py",
        "/page/..%2fapp.py",
        "/page/../../../../../../etc/passwd",
        "/page//etc/passwd",
        "/page/main.js/../../app.py",
        "/page/index.html",
        "/page/main.js\0",
        "/api/images/../images/0001/view.png",
        "/api/images/..%2f..%2fx/view.png",
        "/api/images/0001/image.tif",
        "/api/images/0001/../0001/view.png",
    ],
)
def test_no_other_file_is_served(client, path):
    client.upload(discs_png())
    client.ask("GET", path)
    assert client.status in (403, 404)


NAMES = (
    *("../../x.png", "/etc/passwd.png", "C:\\a\\b.png", "a\0b.png", "CON.png", "x" * 5000 + ".png", "..png", ".png"),
    "\u202egnp.PNG",
)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_names_are_for_display_only(client, name):
    (image,) = client.upload(discs_png(), name)["images"]
    assert image["id"] == "0001"
    assert not re.search(r"[/\\\0\u202e]", image["name"]) and 0 < len(image["name"]) <= requests.MAX_NAME
    files = {
        path.relative_to(client.session.project.folder).as_posix() for path in client.session.project.folder.rglob("*")
    }
    assert all(re.fullmatch(r"(images|images/0001(/[a-z]+(\.\w+)?)?)", file) for file in files)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("a./\\\0\n:\u00e9\u202e "), max_size=300).map("".join))
def test_display_names_are_short_printable_and_without_folders(name):
    shown = display_name(name)
    assert 0 < len(shown) <= requests.MAX_NAME and not re.search(r"[/\\\0-\x1f]", shown)


BAD_EDITS = [
    ({"operation": "delete"}, "nucleus is 'None'"),
    ({"operation": "delete", "nucleus": "1"}, "need a number"),
    ({"operation": "delete", "nucleus": True}, "need a number"),
    ({"operation": "delete", "nucleus": 1.5}, "whole number"),
    ({"operation": "delete", "nucleus": 10**400}, "need a number"),
    ({"operation": "delete", "nucleus": float("nan")}, "need a number"),
    ({"operation": "delete", "nucleus": 99}, "no nucleus 99"),
    ({"operation": "merge", "nucleus": 1}, "other is"),
    ({"operation": "split", "points": [[1, 2]]}, "list of 2"),
    ({"operation": "split", "points": [[1, 2], [3]]}, "not a pair"),
    ({"operation": "split", "points": [[1, 2], [3, float("inf")]]}, "not a pair"),
    ({"operation": "split", "points": [[1, 2], [3, 1e300]]}, "not a pair"),
    ({"operation": "split", "points": "12"}, "list of 2"),
    ({"operation": "split", "points": [[0, 0]] * 20_001}, "list of 2"),
    ({"operation": "split", "points": [[1e6, 1e6], [1e6, -1e6]]}, "cuts no nucleus"),
    ({"operation": "draw", "points": [[1, 2], [3, 4]]}, "list of 3"),
    ({"operation": "fly"}, "no operation 'fly'"),
    ({}, "no operation"),
]


def test_edits_that_make_no_sense_are_refused(searched):
    before = searched.get("/api/images/0001/outlines")
    for fields, message in BAD_EDITS:
        answer = edit(searched, **fields)
        assert message in answer.get("refused" if searched.status == 200 else "error", ""), (fields, answer)
        assert searched.status in (200, 400)
    assert searched.get("/api/images/0001/outlines") == before


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a":' * 9999])
def test_a_body_that_is_no_json_object_is_refused(client, body):
    assert "the body is" in json.loads(client.ask("POST", "/api/find", body))["error"] and client.status == 400


BAD_SEARCHES = [
    ({"images": []}, "at least one"),
    ({"images": "0001"}, "list of texts"),
    ({"images": [1]}, "list of texts"),
    ({"images": ["0009"]}, "not in the project"),
    ({"images": ["../0001"]}, "not in the project"),
    ({"images": ["0001"], "diameter": 4.7}, "diameter is '4.7'; need a number from 4.8 to 200"),
    ({"images": ["0001"], "minArea": -1}, "minArea"),
    ({"images": ["0001"], "excludeBorder": 1}, "true or false"),
    ({"images": ["0001"], "weights": "../../x"}, "these weights"),
    ({"images": ["0001"], "weights": 7}, "these weights"),
]


def test_searches_that_make_no_sense_are_refused(client):
    client.upload(discs_png())
    for fields, message in BAD_SEARCHES:
        assert message in client.post("/api/find", fields)["error"] and client.status in (400, 404, 422), fields
