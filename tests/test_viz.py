"""Overlays, montages and figures: colors, sizes, and no global state."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tinynet import viz


def squares(*corners, shape=(60, 80), size=12):
    """A label image with squares 1, 2, ... whose top left corners are given."""
    labels = np.zeros(shape, np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + size, x : x + size] = number
    return labels


def color_at(drawing, y, x):
    return tuple(drawing[y, x].tolist())


IMAGE = np.full((60, 80, 3), 40, np.uint8)


def test_stretch_brightens_dim_images_only():
    dim = np.tile(np.arange(51, dtype=np.uint8)[:, None, None], (1, 40, 3))
    assert viz.stretch(dim).max() == 255
    assert viz.stretch(dim).dtype == np.uint8
    bright = np.tile(np.arange(256, dtype=np.uint8)[:, None, None], (1, 40, 3))
    np.testing.assert_allclose(viz.stretch(bright), bright, atol=1)
    np.testing.assert_array_equal(viz.stretch(0 * dim), 0 * dim)


def test_overlay_outlines_each_nucleus_in_its_colour():
    labels = squares((5, 5), (5, 17), (30, 40))  # the first two touch
    before = IMAGE.copy()
    drawing = viz.overlay(IMAGE, labels)
    assert (drawing.shape, drawing.dtype) == (IMAGE.shape, np.uint8)
    np.testing.assert_array_equal(IMAGE, before)
    assert color_at(drawing, 5, 10) == color_at(drawing, 10, 16) == tuple(viz.OUTLINES[1])
    assert color_at(drawing, 10, 17) == tuple(viz.OUTLINES[2])  # each nucleus in its own color
    assert color_at(drawing, 30, 45) == tuple(viz.OUTLINES[3])
    assert color_at(drawing, 10, 10) == color_at(viz.stretch(IMAGE), 10, 10)  # the inside does not change
    assert color_at(drawing, 4, 10) == viz.BLACK  # a dark line surrounds it
    assert len({tuple(color) for color in viz.OUTLINES}) == len(viz.OUTLINES)


def test_comparison_colors_hits_misses_and_false_alarms():
    true = squares((5, 5), (30, 5))
    pred = squares((5, 6), (30, 50), (45, 65))  # shifted by one: a hit; the others match no nucleus
    drawing = viz.comparison_overlay(IMAGE, true, pred * 10)
    assert color_at(drawing, 5, 10) == viz.HIT
    assert color_at(drawing, 30, 10) == viz.MISS
    assert color_at(drawing, 30, 55) == color_at(drawing, 45, 70) == viz.FALSE_ALARM


def test_the_dark_line_around_a_hit_covers_no_outline():
    hit, missed = squares((5, 5)), squares((8, 17), size=6)
    drawing = viz.comparison_overlay(IMAGE, np.where(missed, 2, hit), hit)
    assert color_at(drawing, 10, 16) == viz.HIT
    assert color_at(drawing, 10, 17) == viz.MISS


def test_an_overlap_of_exactly_one_half_is_no_hit():
    true, half = squares((10, 10)), squares((10, 10))
    half[:, 16:] = 0
    drawing = viz.comparison_overlay(IMAGE, true, half)
    assert color_at(drawing, 15, 21) == viz.MISS
    assert color_at(drawing, 15, 10) == viz.FALSE_ALARM


def test_legend_states_the_counts(monkeypatch):
    seen = []
    draw_legend = viz._legend
    monkeypatch.setattr(viz, "_legend", lambda entries, width: seen.extend(entries) or draw_legend(entries, width))
    drawing = viz.comparison_overlay(IMAGE, squares((5, 5), (30, 5)), squares((5, 5)))
    assert seen == [("hit (IoU > 0.5): 1", viz.HIT), ("missed: 1", viz.MISS), ("false alarm: 0", viz.FALSE_ALARM)]
    legend = drawing[60:]
    for _, color in seen:
        assert (legend == color).all(axis=2).any()  # written in that color, on whole pixels


@pytest.mark.parametrize("shape", [(20, 16), (256, 200), (300, 1200)])
def test_legend_fits_narrow_and_wide_images(shape):
    nothing = np.zeros(shape, int)
    drawing = viz.comparison_overlay(np.zeros((*shape, 3), np.uint8), nothing, nothing)
    assert drawing.shape[0] > shape[0]
    assert drawing.shape[1] >= shape[1]
    assert not drawing[:, -2:].any()  # no letter is cut on the right


def test_panel_puts_pictures_in_a_grid():
    red, blue = np.zeros((30, 60, 3), np.uint8), np.zeros((200, 100, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    grid = viz.panel([[red, blue], [blue, red]], ["one", "two"], ["first", "second"], width=50)
    is_red, is_blue = (np.all(grid == color, axis=2) for color in ((255, 0, 0), (0, 0, 255)))
    assert is_red.sum() == 2 * 25 * 50
    assert is_blue.sum() == 2 * 100 * 50
    middle = grid.shape[1] // 2
    top_red = np.argwhere(is_red).min(axis=0)
    assert top_red[1] < middle < np.argwhere(is_blue).min(axis=0)[1] + middle
    without = viz.panel([[red, blue], [blue, red]], ["one", "two"], width=50)
    assert without.shape[0] < grid.shape[0]


def test_png_round_trip(tmp_path):
    viz.save_png(tmp_path / "new" / "p.png", IMAGE)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new" / "p.png")), IMAGE)


def test_curve_has_one_plot_a_quantity(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = {}
    plot = Axes.plot

    def record(self, x, y, **style):
        drawn[style["label"]] = (list(x), list(y), self)
        return plot(self, x, y, **style)

    monkeypatch.setattr(Axes, "plot", record)
    table = tmp_path / "metrics.csv"
    table.write_text(
        "epoch,train_loss,val_loss,val_dice,note,lr\n1,2.0,,.1,start,1\n2,1.5,1.75,.2,,1\n3,1.0,1.5,.3,nan,1\n4,0."
    )
    viz.plot_curve(table, tmp_path / "curve.png")
    assert set(drawn) == {"train_loss", "val_loss", "val_dice", "lr"}  # no numbers under `note`
    assert drawn["train_loss"][:2] == ([1, 2, 3], [2.0, 1.5, 1.0])  # the unfinished line is ignored
    assert drawn["val_loss"][:2] == ([2, 3], [1.75, 1.5])
    assert drawn["train_loss"][2] is drawn["val_loss"][2]
    assert drawn["train_loss"][2] is not drawn["val_dice"][2]
    assert Image.open(tmp_path / "curve.png").size[0] > 300
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curve.png", "metrics.csv"]
    drawn.clear()
    monkeypatch.setattr("tinynet.training.figures.MOST_PLOTS", 2)  # a table of 300 columns must not take gigabytes
    viz.plot_curve(table, tmp_path / "curve.png")
    assert set(drawn) == {"train_loss", "val_loss", "val_dice"}


def test_no_window_and_no_pyplot(tmp_path):
    (tmp_path / "m.csv").write_text("epoch,train_loss\n1,2\n")
    program = (
        "import sys, tinynet.imaging.viz; assert 'matplotlib' not in sys.modules; "
        "tinynet.imaging.viz.plot_curve(sys.argv[1] + '/m.csv', sys.argv[1] + '/m.png'); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert (tmp_path / "m.png").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'epoch'"),
        ("step,loss\n1,2\n", r"no column 'epoch', only \['step', 'loss'\]"),
        ("epoch,loss\n", "no rows yet"),
        ("epoch,loss\n1,\n", "no column of numbers beside 'epoch'"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    table = tmp_path / "metrics.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=f"metrics.csv has {message}"):
        viz.plot_curve(table, tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


def test_bad_pictures_are_named():
    labels = squares((5, 5))
    with pytest.raises(ValueError, match=r"overlay: labels have shape \(60, 79\), image \(60, 80, 3\)"):
        viz.overlay(IMAGE, labels[:, :-1])
    with pytest.raises(ValueError, match="comparison_overlay: pred has shape"):
        viz.comparison_overlay(IMAGE, labels, labels[1:])
    with pytest.raises(ValueError, match="row 1 has 1 images, titles name 2 columns"):
        viz.panel([[IMAGE, IMAGE], [IMAGE]], ["a", "b"])
    with pytest.raises(ValueError, match="1 captions for 2 rows"):
        viz.panel([[IMAGE], [IMAGE]], ["a"], ["only one"])
    with pytest.raises(ValueError, match="rows is empty"):
        viz.panel([], ["a"])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_checkerboard_shows_each_image_in_half_of_the_squares(channels):
    first, second = np.zeros((8, 12, *channels), np.uint8), np.full((8, 12, *channels), 9, np.uint8)
    board = viz.checkerboard(first, second, squares=4)
    assert board.shape == first.shape and board.dtype == np.uint8
    flat = board if not channels else board[:, :, 0]
    assert flat[::2, ::2].tolist() == [[0, 9] * 3, [9, 0] * 3] * 2 and (flat[::2, ::2] == flat[1::2, 1::2]).all()
    with pytest.raises(ValueError, match=r"first has shape .*second \(8, 11"):
        viz.checkerboard(first, second[:, 1:])
    with pytest.raises(ValueError, match="squares is 0"):
        viz.checkerboard(first, second, squares=0)


def test_diagrams_say_what_they_show(tmp_path):
    figure = viz.new_figure(6, 3)
    left, right = figure.subplots(1, 2)
    viz.draw_roc(left, np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.4, 0.4, 0.8, 0.9]), "model:")
    (text,) = [entry.get_text() for entry in left.get_legend().get_texts()]
    assert text.startswith("model: AUC 0.917 (") and text.endswith(" to 1.000)")
    viz.draw_confusion(right, np.array([[1200, 0], [3, 4]]), ("benign", "malignant"))
    assert [text.get_text() for text in right.texts] == ["1,200", "3", "4"], "zeros are left blank"
    assert [tick.get_text() for tick in right.get_yticklabels()] == ["benign", "malignant"]
    viz.save_figure(tmp_path / "new" / "figure.png", figure)
    assert Image.open(tmp_path / "new" / "figure.png").size == (1600, 800)
    assert viz.mpl((255, 0, 51)) == (1.0, 0.0, 0.2)


def test_the_warped_grid_lies_where_the_image_lies_after_the_warp():
    _, axes = viz.subplots(figsize=(3, 3))
    displacement = np.zeros((8, 10, 2), np.float32)
    displacement[..., 1] = 1  # each pixel shows its right neighbor: the image moves to the left by 1
    viz.draw_warped_grid(axes, displacement)
    rows, columns = axes.collections
    assert [set(path.vertices[:, 1]) for path in rows.get_paths()] == [{0.0}, {3.0}, {6.0}]
    assert [set(path.vertices[:, 0]) for path in columns.get_paths() if len(path.vertices)] == [{2.0}, {5.0}, {8.0}]


# ---------------------------------------------------------------------------------------- volumes
def test_planes_show_the_three_slices_through_a_voxel():
    volume = np.arange(4 * 5 * 6, dtype=float).reshape(4, 5, 6)
    labels = np.zeros(volume.shape, int)
    labels[1:3, 1:4, 2:5] = 1
    _, axes = viz.subplots(1, 3, figsize=(6, 2))
    viz.draw_planes(axes, volume, [(labels, "-")], center=(1, 2, 3), spacing=(3.0, 1.0, 1.0))
    shown = [panel.images[0].get_array() for panel in axes]
    for actual, expected in zip(shown, (volume[1], volume[:, 2], volume[:, :, 3])):
        np.testing.assert_array_equal(actual, expected)
    assert [panel.get_aspect() for panel in axes] == [1, 3, 3]  # slices of 3 mm are three times as tall
    assert all(panel.images[0].origin == "lower" and panel.collections for panel in axes)


def test_surfaces_rotate_in_a_gif(tmp_path):
    maps = np.zeros((8, 9, 10, 3))
    maps[2:6, 2:7, 2:8, 1], maps[..., 0] = 1, 1
    maps[2:6, 2:7, 2:8, 0] = 0
    figure = viz.new_figure(2, 2)
    axes = figure.add_subplot(projection="3d")
    viz.draw_surfaces(axes, maps)  # the second class is nowhere
    assert len(axes.collections) == 1
    frames = viz.rotation(figure, 3)
    assert len(frames) == 3 and not np.array_equal(frames[0], frames[1])
    viz.save_gif(tmp_path / "turn.gif", frames)
    with Image.open(tmp_path / "turn.gif") as gif:
        assert (gif.n_frames, gif.size) == (3, (200, 200))
    with pytest.raises(ValueError, match="save_gif: frames is empty; at least one image is needed"):
        viz.save_gif(tmp_path / "none.gif", [])


def test_two_masks_in_one_drawing():
    first, second = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    assert viz.compare_masks(first, second)[0].tolist() == [[110] * 3, [*viz.BLUE], [*viz.ORANGE], [255] * 3]
    for other in (second[:, :3], second.astype(int)):
        with pytest.raises(ValueError, match="compare_masks: first is bool"):
            viz.compare_masks(first, other)


def test_the_busiest_square():
    mask = np.zeros((9, 12), bool)
    mask[1, 1] = mask[5:8, 6:9] = True
    assert viz.busiest_square(mask, 3) == (slice(5, 8), slice(6, 9))
    assert viz.busiest_square(mask, 50) == (slice(0, 9), slice(0, 9))  # the first of the largest
    with pytest.raises(ValueError, match=r"mask \(0, 3\), size 2"):
        viz.busiest_square(mask[:0, :3], 2)
