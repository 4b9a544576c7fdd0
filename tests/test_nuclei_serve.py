"""The server behind the page of `tinynet nuclei serve`: what it answers, what it refuses, what it keeps on disk."""

# ruff: noqa: F811 (an argument of a test has the name of its fixture)

from __future__ import annotations

import csv
import http.client
import io
import json
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image
from processes import ROOT
from serving import Client, client, discs_png, edit, no_net, searched  # noqa: F401 (fixtures)

from tinynet.data import read_nuclei
from tinynet.data.microscopy import Plane
from tinynet.errors import DataError, UsageError
from tinynet.nuclei import command, segmentation
from tinynet.nuclei.serve import requests, training
from tinynet.nuclei.serve.edit import Patch
from tinynet.nuclei.serve.export import file_names
from tinynet.nuclei.serve.project import Project, temporary_name


# ---------------------------------------------------------------------------------------- images and edits
def test_upload_find_and_outlines(searched):
    (image,) = searched.get("/api/state")["images"]
    assert (image["name"], image["width"], image["height"]) == ("cells", 160, 128)
    assert image["searched"] and not image["corrected"] and image["diameter"] == 20
    outlines = searched.get("/api/images/0001/outlines")["outlines"]
    assert len(outlines) == image["nuclei"] >= 4
    for name in ("view", "thumbnail"):
        assert searched.ask("GET", f"/api/images/0001/{name}.png").startswith(b"\x89PNG")


def test_edits_answer_what_changed_and_are_undone_after_a_restart(searched):
    before = searched.get("/api/images/0001/outlines")["outlines"]
    answer = edit(searched, operation="delete", nucleus=1)
    assert answer["outlines"] == {"1": None} and answer["image"]["corrected"]
    answer = edit(searched, operation="draw", points=[[110, 10], [130, 10], [130, 30], [110, 30]])
    (new,) = answer["outlines"]
    searched.session.close()

    again = Client(searched.session.project.folder)
    assert again.get("/api/images/0001/outlines")["outlines"].keys() == before.keys() - {"1"} | {new}
    assert edit(again, operation="undo")["outlines"] == {new: None}
    assert edit(again, operation="undo")["outlines"] == {"1": before["1"]}
    assert again.get("/api/images/0001/outlines")["outlines"] == before
    assert edit(again, operation="redo")["outlines"] == {"1": None}
    assert edit(again, operation="redo")["image"]["canRedo"] is False
    assert edit(again, operation="redo")["outlines"] == {}
    edit(again, operation="undo")
    edit(again, operation="undo")  # two edits could be redone, until another one takes their place
    assert edit(again, operation="delete", nucleus=2)["image"]["canRedo"] is False
    again.session.close()


def test_a_search_can_be_undone(searched):
    assert edit(searched, operation="undo")["image"]["nuclei"] == 0
    assert edit(searched, operation="redo")["image"]["nuclei"] >= 4


def test_an_image_is_removed_with_its_files(searched):
    searched.ask("DELETE", "/api/images/0001")
    assert searched.status == 200 and searched.get("/api/state")["images"] == []
    assert list((searched.session.project.folder / "images").iterdir()) == []
    searched.ask("GET", "/api/images/0001/view.png")
    assert searched.status == 404


def test_a_request_that_waited_while_the_image_was_removed_changes_nothing(searched):
    image = searched.session.image("0001")
    searched.ask("DELETE", "/api/images/0001")

    def patch(labels):
        return Patch(0, 0, np.ones((2, 2), np.int32))

    for change in (lambda: image.edit(patch), image.undo, image.redo, lambda: image.change(corrected=True)):
        with pytest.raises(DataError, match="cells is not in the project any more"):
            change()
    assert list((searched.session.project.folder / "images").iterdir()) == []


def test_what_a_killed_server_left_is_cleaned_and_damage_is_named(searched):
    folder = searched.session.project.folder
    half = folder / "images" / temporary_name()
    half.mkdir()
    others = [folder / "images" / name for name in (".hidden", "mine", "0005")]
    for path in others:
        path.mkdir()
        (path / "notes.txt").write_text("of the user")
    again = Project(folder)
    assert len(again.images()) == 1 and not half.exists()
    assert all((path / "notes.txt").exists() for path in others)
    pixels = np.zeros((20, 20), np.uint8)
    assert again.add(Plane("new", pixels, {"gray": pixels}, None, "new.png")).id == "0006"
    (folder / "images/0001/labels.tif").write_bytes(b"II*\0")
    assert "delete it" in edit(searched, operation="delete", nucleus=1)["error"] and searched.status == 422
    (folder / "images/0001/history/0001.npz").write_bytes(b"PK")
    assert "neither undone nor done again" in edit(searched, operation="undo")["error"]
    (folder / "images/0001/image.json").write_text("{")
    with pytest.raises(ValueError, match=r"0001/image.json: damaged"):
        Project(folder)


def test_a_full_disk_is_a_sentence_and_changes_nothing(searched, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = searched.get("/api/images/0001/outlines")["outlines"]
    monkeypatch.setattr("tifffile.imwrite", full)
    monkeypatch.setattr("numpy.savez_compressed", full)
    assert "No space left" in edit(searched, operation="delete", nucleus=1)["error"] and searched.status == 507
    assert "No space left" in searched.upload(discs_png())["error"]
    assert searched.get("/api/images/0001/outlines")["outlines"] == before
    assert len(searched.get("/api/state")["images"]) == 1
    assert [path.name for path in (searched.session.project.folder / "images").iterdir()] == ["0001"]


# ---------------------------------------------------------------------------------------- one computation at a time
def test_a_second_search_is_refused_while_one_runs_and_stop_ends_it(client, monkeypatch):
    client.upload(discs_png())
    client.upload(discs_png())
    started, threads = threading.Event(), []

    def slow(*_, progress, **__):
        threads.append(threading.get_ident())
        started.set()
        while True:
            progress(1, 4)

    monkeypatch.setattr(segmentation, "segment_many", lambda *a, progress: slow(progress=progress))
    client.post("/api/find", {"images": ["0001", "0002"]})
    assert started.wait(10)
    for path, value in {
        "/api/find": {"images": ["0001"]},
        "/api/train": {"epochs": 1},
        "/api/images/0001/edit": {"operation": "undo"},
        "/api/images/0001/corrected": {"corrected": True},
    }.items():
        assert client.post(path, value)["error"].startswith("busy: ") and client.status == 409
    client.ask("DELETE", "/api/images/0002")
    assert client.status == 409
    state = client.get("/api/state")["computation"]
    assert state["running"] and state["title"] == "finding nuclei in 2 images" and "1 of 2" in state["step"]
    client.post("/api/stop", {})
    assert client.wait() == ""
    client.post("/api/find", {"images": ["0001"]})
    client.post("/api/stop", {})
    client.wait()
    assert len(set(threads)) == 1 and threads[0] != threading.get_ident()
    assert "error" not in edit(client, operation="undo")


def test_a_search_that_fails_says_why(client, monkeypatch, capsys):
    client.upload(discs_png())
    for error, message in ((ValueError("no such net"), "no such net"), (KeyError("x"), "the terminal shows more")):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(segmentation, "segment_many", fail)
        client.post("/api/find", {"images": ["0001"]})
        assert message in client.wait()
    assert "KeyError" in capsys.readouterr().err
    assert not client.get("/api/state")["images"][0]["busy"]


# ---------------------------------------------------------------------------------------- export
def test_the_export_holds_the_corrected_nuclei(searched):
    searched.upload(discs_png(), "CELLS.png")  # the same name on Windows
    searched.upload(discs_png(), "con.png")  # not searched
    searched.post("/api/find", {"images": ["0002"]})
    assert searched.wait() == ""
    edit(searched, operation="delete", nucleus=2)
    archive = zipfile.ZipFile(io.BytesIO(searched.ask("GET", "/api/export.zip")))
    assert searched.headers["Content-Type"] == "application/zip" and archive.testzip() is None
    names = archive.namelist()
    assert {name for name in names if "cells" in name} == {
        "labels/cells.tif",
        "overlays/cells.png",
        "rois/cells.zip",
        "geojson/cells.geojson",
    }
    assert "labels/CELLS_2.tif" in names and not any("con" in name or name.startswith("results") for name in names)
    nuclei = searched.get("/api/images/0001/outlines")["outlines"]
    labels = tifffile.imread(io.BytesIO(archive.read("labels/cells.tif")))
    assert np.unique(labels).tolist() == list(range(len(nuclei) + 1))  # numbered without gaps
    features = json.loads(archive.read("geojson/cells.geojson"))["features"]
    rois = zipfile.ZipFile(io.BytesIO(archive.read("rois/cells.zip"))).namelist()
    table = list(csv.DictReader(io.StringIO(archive.read("measurements.csv").decode())))
    assert len(features) == len(rois) == len([row for row in table if row["image"] == "cells"]) == len(nuclei)


def test_an_export_of_nothing_is_a_sentence(client):
    client.upload(discs_png())
    assert "find nuclei first" in json.loads(client.ask("GET", "/api/export.zip"))["error"] and client.status == 422


def test_names_of_exported_files_are_safe_and_unique():
    given = ["../../x", "A/b", "a_b", "CON", "nul.x", "..", "", "é" * 200, "a:b*?", "a b, c (1)"]
    names = file_names(given)
    assert names[:6] == ["_.._x", "A_b", "a_b_2", "_CON", "_nul.x", "image"] and names[9] == "a b, c (1)"
    assert len({name.casefold() for name in names}) == len(given)
    assert all(len(name.encode()) <= 125 and not re.search(r'[/\\:*?"<>|]', name) for name in names)


def test_channels_and_pixel_size_of_a_stack_reach_the_table(client):
    stack = np.stack([np.asarray(Image.open(io.BytesIO(discs_png()))), np.full((128, 160), 7)]).astype(np.uint16)
    file = io.BytesIO()
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(file, stack, ome=True, metadata=metadata)
    error = client.upload(file.getvalue(), "stack.ome.tif")["error"]
    assert "1 DAPI, 2 GFP" in error and "in “Channels, slices”" in error and "--channel" not in error
    assert client.status == 422
    (image,) = client.upload(file.getvalue(), "stack.ome.tif&channel=DAPI")["images"]
    assert image["pixel_size"] == 0.5
    client.post("/api/find", {"images": ["0001"]})
    assert client.wait() == ""
    archive = zipfile.ZipFile(io.BytesIO(client.ask("GET", "/api/export.zip")))
    row = next(csv.DictReader(io.StringIO(archive.read("measurements.csv").decode())))
    assert float(row["mean_DAPI"]) == 200 and float(row["mean_GFP"]) == 7 and float(row["area_um2"]) > 0


# ---------------------------------------------------------------------------------------- training
FAKE_TRAINING = """
import pathlib, sys, time
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
run, data = pathlib.Path(arguments["--out"]), pathlib.Path(arguments["--data"])
print(sorted(path.relative_to(data).as_posix() for path in data.glob("*/*")), arguments["--weights"], flush=True)
run.mkdir(parents=True)
if arguments["--epochs"] == "3":
    sys.exit("error: out of luck")
(run / "best.npz").write_bytes(b"weights")
(run / "metrics.csv").write_text("epoch,train_loss,seconds,val_loss\\n1,0.9,1.0,0.8\\n")
if arguments["--epochs"] == "2":
    time.sleep(60)
"""


@pytest.fixture
def trained(searched, monkeypatch, tmp_path):
    """A client with two corrected images, for which training is a script of a few lines."""
    (tmp_path / "train.py").write_text(FAKE_TRAINING)
    monkeypatch.setattr(training, "TRAIN", (sys.executable, str(tmp_path / "train.py")))
    searched.upload(discs_png(), "second.png")
    searched.post("/api/images/0002/edit", {"operation": "draw", "points": [[9, 9], [29, 9], [29, 29]]})
    searched.post("/api/images/0001/corrected", {"corrected": True})
    return searched


def until(client, condition):
    for _ in range(3000):
        state = client.get("/api/state")
        if condition(state["training"]):
            return state
        threading.Event().wait(0.01)
    raise AssertionError(state)


def test_training_runs_on_the_corrected_images_and_its_weights_can_be_chosen(trained):
    trained.post("/api/train", {"epochs": 1, "weights": "shipped"})
    state = until(trained, lambda training: not training["running"])
    assert state["training"]["rows"] == [{"epoch": 1, "train_loss": 0.9, "seconds": 1.0, "val_loss": 0.8}]
    assert state["training"]["error"] == "" and [net["id"] for net in state["weights"]] == ["shipped", "0001"]
    folder = trained.session.project.folder / "training"
    log = (folder / "0001/log.txt").read_text()
    assert "['images/0001.tif', 'images/0002.tif', 'labels/0001.tif', 'labels/0002.tif']" in log
    assert log.endswith("shipped\n")
    samples = read_nuclei(folder / "0001/data", progress=False)
    nuclei = [image["nuclei"] for image in state["images"]]
    assert [sample.labels.max() for sample in samples] == nuclei
    trained.post("/api/train", {"epochs": 3, "weights": "0001"})
    assert until(trained, lambda training: not training["running"])["training"]["error"] == "out of luck"
    assert "0001/run/best.npz" in (folder / "0002/log.txt").read_text()
    again = Client(trained.session.project.folder)
    assert [net["id"] for net in again.get("/api/state")["weights"]] == ["shipped", "0001"]
    again.session.close()


def test_training_is_stopped_and_keeps_its_weights(trained):
    trained.post("/api/train", {"epochs": 2})
    state = until(trained, lambda training: training["rows"])
    assert state["training"]["running"] and state["training"]["secondsLeft"] > 0
    for path, value in {"/api/train": {"epochs": 1}, "/api/find": {"images": ["0001"]}}.items():
        assert "training runs" in trained.post(path, value)["error"] and trained.status == 409
    assert "error" not in edit(trained, operation="delete", nucleus=1)
    trained.post("/api/stop", {})
    state = until(trained, lambda training: not training["running"])
    assert state["training"]["error"] == "" and len(state["weights"]) == 2


def test_the_page_can_ask_while_a_run_is_prepared_and_a_full_disk_leaves_no_run(trained, monkeypatch):
    trained.post("/api/train", {"epochs": 3})
    until(trained, lambda training: not training["running"])

    def full(images, folder):
        folder.mkdir(parents=True)
        assert trained.session.state()["training"]["error"] == "out of luck", "of the earlier run"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training, "copy_data", full)
    assert "No space left" in trained.post("/api/train", {"epochs": 1})["error"] and trained.status == 507
    assert [path.name for path in (trained.session.project.folder / "training").iterdir()] == ["0001"]


def test_training_needs_a_corrected_image(searched):
    assert "no corrected image" in searched.post("/api/train", {"epochs": 1})["error"] and searched.status == 422
    for epochs in (0, 1.5, "2", None):
        assert "epochs is" in searched.post("/api/train", {"epochs": epochs})["error"]
    assert not (searched.session.project.folder / "training").exists()


# ---------------------------------------------------------------------------------------- the command
def test_without_the_libraries_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bottle", None)
    with pytest.raises(UsageError, match=r"bottle and waitress.*\[serve\]"):
        command.main(["serve", "--out", str(tmp_path), "--no-browser"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--port", "70000"], "must lie in"), (["--port", "x"], "invalid int"), (["--host", "0.0.0.0"], "--host")],
)
def test_flags_that_make_no_sense(arguments, message):
    with pytest.raises(UsageError, match=message):
        command.main(["serve", *arguments])


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--port {port}: .*; choose another port, or 0 for any"):
            command.main(["serve", "--out", str(tmp_path), "--no-browser", "--port", str(port)])


def test_the_browser_is_started_with_a_file_that_only_the_user_can_read(tmp_path, monkeypatch):
    opened = []

    def start_browser(address):
        path = tmp_path / "open.html"
        assert address == path.as_uri()
        opened.append((path.read_text(), stat.S_IMODE(path.stat().st_mode)))
        raise KeyboardInterrupt

    monkeypatch.setattr("webbrowser.open", start_browser)
    (tmp_path / "open.html").write_text("of a server that was killed")
    with pytest.raises(KeyboardInterrupt):
        command.main(["serve", "--out", str(tmp_path), "--port", "0"])
    ((document, mode),) = opened
    assert re.search(r'url=http://127.0.0.1:\d+/\?token=[\w-]{32}"', document)
    assert mode == 0o600 or sys.platform == "win32"
    assert not (tmp_path / "open.html").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_real_server_refuses_what_is_too_large_and_ends_in_order(ending, tmp_path):
    command_line = [sys.executable, "-m", "tinynet", "nuclei", "serve", "--no-browser", "--port", "0"]
    command_line += ["--out", str(tmp_path)]
    with subprocess.Popen(
        command_line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        address = next(line for line in process.stdout if "http" in line).strip()
        server = http.client.HTTPConnection(address.split("/")[2])
        server.request("GET", "/")
        assert server.getresponse().status == 403
        server = http.client.HTTPConnection(address.split("/")[2])
        server.putrequest("POST", "/api/images?name=a.png")
        server.putheader("Content-Length", str(requests.MAX_UPLOAD + 1))
        server.endheaders()  # no body follows: the answer comes without it
        assert server.getresponse().status == 413
        second = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 2 and "another server uses this project" in second.stderr
        process.send_signal(getattr(signal, ending))
        assert "the project is kept" in process.stdout.read()
    assert process.returncode == 0
