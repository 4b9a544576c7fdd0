"""Crops and the loader: right pixels, a seeded order, and the same bits for any number of workers."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nuclei_files import squares

import tinynet as tn
from tinynet.data.crops import NucleiCrops
from tinynet.data.loader import DataLoader
from tinynet.data.maps import targets
from tinynet.data.nuclei import Sample, normalize
from tinynet.data.synthetic import synthetic_nuclei
from tinynet.errors import DataError
from tinynet.imaging.instances import median_diameter


class Numbers:
    """Item i is (i, a random number)."""

    def __len__(self):
        return 23

    def item(self, index, rng):
        return np.array(index), rng.random(3)


def loader(workers=1, **options):
    return DataLoader(Numbers(), 4, workers=workers, **{"seed": 5, **options})


def bits(batches) -> list[bytes]:
    return [b"".join(np.ascontiguousarray(part).tobytes() for part in batch) for batch in batches]


def test_every_item_once_in_a_new_order_each_epoch():
    loop = loader()
    epochs = [np.concatenate([batch[0] for batch in loop]) for _ in range(2)]
    assert len(loop) == 6 and loop.epoch == 2
    for order in epochs:
        assert sorted(order) == list(range(23))
    assert not np.array_equal(*epochs) and not np.array_equal(epochs[0], np.arange(23))
    plain = np.concatenate([batch[0] for batch in loader(shuffle=False)])
    assert plain.tolist() == list(range(23))


def test_the_number_of_workers_changes_nothing():
    expected = bits(loader(workers=0))
    for workers in (1, 2, 5):
        assert bits(loader(workers=workers)) == expected
    assert bits(loader(seed=6)) != expected


def test_a_resumed_run_sees_the_same_bits():
    whole = loader()
    expected = [bits(whole) for _ in range(4)]
    resumed = loader()
    resumed.epoch = 2
    assert [bits(resumed), bits(resumed)] == expected[2:]
    assert bits(loader().batches(3, start=2)) == expected[3][2:]


def test_streams_of_order_epochs_and_items_differ():
    """Items, epochs and seeds never share random numbers."""
    drawn = set()
    for seed in (0, 1, 2):
        loop = loader(seed=seed)
        for _ in range(3):
            for _, numbers in loop:
                drawn.update(numbers.ravel().tolist())
    assert len(drawn) == 3 * 3 * 23 * 3


def test_plain_sequences_and_own_collate():
    items = [(np.full(2, i), i) for i in range(5)]
    batches = list(DataLoader(items, 2, shuffle=False))
    assert batches[0][0].shape == (2, 2) and batches[-1][1].tolist() == [4]
    assert list(DataLoader(items, 2, shuffle=False, collate=len)) == [2, 2, 1]


def test_items_of_any_structure():
    items = [{"image": np.full((2, 3), i), "more": (float(i), [f"name {i}", {"deep": i}])} for i in range(4)]
    batch = next(iter(DataLoader(items, 4, shuffle=False)))
    assert batch["image"].shape == (4, 2, 3) and batch["image"][3, 0, 0] == 3
    numbers, (names, deep) = batch["more"]
    assert numbers.tolist() == [0, 1, 2, 3] and names.tolist()[2] == "name 2" and deep["deep"].tolist() == [0, 1, 2, 3]
    rows = np.arange(15).reshape(5, 3)
    for data in (rows, list(rows), tn.tensor(rows.astype(np.float32))):
        first, *_, last = DataLoader(data, 2, shuffle=False)
        assert np.array_equal(first, rows[:2]) and np.array_equal(last, rows[4:])
    assert next(iter(DataLoader(range(5), 5, shuffle=False))).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"a": 1}, {"b": 1}], "differ: a dict with a and a dict with b"),
        ([{"a": 1}, (1,)], "differ: a dict with a and a tuple of 1"),
        ([(1, 2), (1, 2, 3)], "differ: a tuple of 2 and a tuple of 3"),
        ([(1, 2), 1], r"differ: a tuple of 2 and values of shape \(\)"),
        ([(np.zeros((2, 3)),), (np.zeros((2, 4)),)], r"differ: values of shape \(2, 3\) and values of shape \(2, 4\)"),
        ([1, "one"], r"differ: values of shape \(\) and text of shape \(\)"),
        ([(1, None), (2, None)], "an item holds a NoneType; arrays, numbers"),
        ([{1}, {2}], "an item holds a set; arrays, numbers"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_items_that_do_not_fit_together(items, message, workers):
    with pytest.raises(DataError, match=message):
        list(DataLoader(items, 2, shuffle=False, workers=workers))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ((np.zeros((4, 2)), np.zeros((4, 2))), r"the dataset is a tuple; .* list\(zip\(images, labels\)\)"),
        (iter([1, 2]), "the dataset is a list_iterator; a sequence of items"),
        ({1, 2}, "the dataset is a set; a sequence of items"),
    ],
)
def test_data_sets_without_items(dataset, message):
    with pytest.raises(TypeError, match=message):
        DataLoader(dataset, 2)


def test_a_loader_made_anew_has_a_new_order_that_the_seed_repeats():
    def orders():
        tn.seed(4)
        return [np.concatenate(list(DataLoader(range(30), 7))).tolist() for _ in range(3)]

    first = orders()
    assert first == orders() and first[0] != first[1] != first[2]


def test_batches_are_prepared_ahead_within_a_bound_and_not_after_the_loop_was_left(monkeypatch):
    """One worker, one item a batch: item 1 waits until the loop was left, so what was submitted after it waits, too."""
    left, submitted, made = threading.Event(), [], []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments):
            submitted.append(arguments)
            return super().submit(*arguments)

        def shutdown(self, **options):
            super().shutdown(**{**options, "wait": False})
            left.set()
            super().shutdown()

    class Items(Numbers):
        def item(self, index, rng):
            assert index == 0 or left.wait(60)
            made.append(index)
            return super().item(index, rng)

    monkeypatch.setattr("tinynet.data.loader.ThreadPoolExecutor", Pool)
    batches = DataLoader(Items(), 1, shuffle=False, workers=1).batches(0)
    with contextlib.closing(batches):
        next(batches)
        ahead = len(submitted)
    assert ahead == 3  # the batch that was asked for, and two for each worker
    assert len(made) <= 2  # item 0, and item 1 if the thread had begun with it


def test_the_last_batch_may_be_left_out():
    whole, dropped = list(loader()), loader(drop_last=True)
    assert len(dropped) == 5 and bits(dropped) == bits(whole[:5]) and bits(dropped.batches(0, 4)) == bits(whole[4:5])
    with pytest.raises(ValueError, match="drop_last leaves no batch: 23 items, batch_size 24"):
        DataLoader(Numbers(), 24, drop_last=True)


def running() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("DataLoader")]


def test_leaving_early_leaves_no_threads():
    for _ in loader(workers=3):
        break
    iterator = iter(loader(workers=3))
    next(iterator)
    assert running()
    iterator.close()
    assert not running()
    with pytest.raises(KeyError):
        for _ in loader(workers=2):
            raise KeyError
    assert not running()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_the_item(workers):
    class Broken(Numbers):
        def item(self, index, rng):
            if index == 13:
                raise RuntimeError("image abc is odd")
            return super().item(index, rng)

    with pytest.raises(DataError, match="item 13 failed: RuntimeError: image abc is odd"):
        list(DataLoader(Broken(), 4, workers=workers))
    assert not running()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "batch_size 0"), ({"workers": -1}, "workers -1"), ({"dataset": []}, "dataset is empty")],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(**{"dataset": Numbers(), "batch_size": 2, **options})


# ---------------------------------------------------------------- crops


def samples() -> list[Sample]:
    rng = np.random.default_rng(3)
    made = [synthetic_nuclei(rng, kind, size=160) for kind in ("fluorescence", "histology", "fluorescence")]
    for number, sample in enumerate(made):
        sample.id, sample.group = f"s{number}", f"g{number}"
    return made


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("diameter", [None, 24.0])
def test_crops_have_the_promised_shape(heads, diameter):
    data = NucleiCrops(samples(), size=64, crops_per_epoch=20, heads=heads, target_diameter=diameter)
    images, maps = next(iter(DataLoader(data, 20)))
    assert images.shape == (20, 64, 64, 3) and maps.shape == (20, 64, 64, heads)
    assert images.dtype == maps.dtype == np.float32
    assert images.min() >= -0.5 and images.max() <= 2 and maps.min() == 0 and maps.max() <= 1
    assert 0.02 < maps[..., 0].mean() < 0.7 and len(data) == 20


@pytest.mark.parametrize("setting", ["size", "crops_per_epoch"])
@pytest.mark.parametrize("value", [0, -1])
def test_crops_without_pixels_and_epochs_without_crops_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"NucleiCrops: {setting} is {value}; at least 1 is needed"):
        NucleiCrops(samples(), **{setting: value})


def test_native_crops_are_the_whole_image_s_pixels(monkeypatch):
    """Without intensity changes a native crop is a part of the normalized image, rotated by right angles."""
    monkeypatch.setattr("tinynet.data.crops.INTENSITY", lambda image, labels, rng: (image, labels))
    sample = samples()[1]
    data = NucleiCrops([sample], size=48, heads=1, target_diameter=None)
    whole = np.concatenate([normalize(sample.image), targets(sample.labels, 1)], axis=2)
    for seed in range(5):
        crop = np.concatenate(data.item(0, np.random.default_rng(seed)), axis=2)
        rotated = [np.rot90(side, k) for side in (whole, whole[:, ::-1]) for k in range(4)]
        assert any(holds(t, crop) for t in rotated)


def holds(whole: np.ndarray, part: np.ndarray) -> bool:
    rows, columns = np.array(whole.shape[:2]) - part.shape[:2] + 1
    corner = np.abs(whole[:rows, :columns] - part[0, 0]).max(axis=2) < 1e-4
    height, width = part.shape[:2]
    return any(np.abs(whole[r : r + height, c : c + width] - part).max() < 1e-4 for r, c in np.argwhere(corner))


def test_scaled_crops_bring_nuclei_to_one_size(monkeypatch):
    monkeypatch.setattr("tinynet.data.crops.INTENSITY", lambda image, labels, rng: (image, labels))
    labels = np.zeros((400, 400), np.int32)
    row, column = np.indices(labels.shape)
    for number, (r, c) in enumerate(np.ndindex(4, 4), start=1):
        labels[(row - 50 - 100 * r) ** 2 + (column - 50 - 100 * c) ** 2 < 40**2] = number  # discs of diameter 80
    image = np.where(labels > 0, 100, 5).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    data = NucleiCrops([Sample("discs", image, labels, "fluorescence", "g")], target_diameter=20)
    covered, expected = [], np.pi * 40**2 / 100**2
    diameters = []
    for seed in range(60):
        image, maps = data.item(0, np.random.default_rng(seed))
        covered.append(maps[..., 0].mean())
        assert ((image[..., 0] > 0.5) == maps[..., 0]).mean() > 0.98  # image and target match
        distance = maps[..., 2]
        assert distance[maps[..., 0] == 0].max() == 0 and distance.max() > 0.95
        # A disc of diameter d has slope 2 / d in its relative distance.
        slope = np.hypot(*np.gradient(distance))[(distance > 0.3) & (distance < 0.8)]
        diameters.append(2 / np.median(slope))
    assert np.mean(covered) == pytest.approx(expected, rel=0.1)
    assert np.median(diameters) == pytest.approx(20, rel=0.2)
    assert np.std(np.log(diameters)) == pytest.approx(0.35, rel=0.4)


def test_kinds_and_groups_are_drawn_by_weight():
    def flat(kind, group, level):
        color = {"fluorescence": (level,) * 3, "histology": (200, 150, 220)}[kind]
        image = np.full((40, 40, 3), color, np.uint8)
        return Sample(f"{kind}{level}", image, squares((40, 48))[:, :40].copy(), kind, group)

    many = [flat("fluorescence", "big", i) for i in range(9)] + [flat("fluorescence", "small", 9)]
    data = NucleiCrops([*many, flat("histology", "h", 0)], size=16)
    rng = np.random.default_rng(0)
    ends = np.diff(data._chances, prepend=0) / data._chances[-1]
    assert ends[-1] == pytest.approx(0.24 / 0.92)
    assert ends[9] / ends[0] == pytest.approx(3)  # 1 / sqrt(1) against 1 / sqrt(9)
    assert data.item(0, rng)[0].shape == (16, 16, 3)


def test_images_smaller_than_the_crop_and_without_nuclei():
    empty = Sample("e", np.full((20, 30, 3), 9, np.uint8), np.zeros((20, 30), np.int32), "fluorescence", "g")
    for diameter in (None, 24.0):
        image, maps = NucleiCrops([empty], size=64, target_diameter=diameter).item(0, np.random.default_rng(0))
        assert image.shape == (64, 64, 3) and np.isfinite(image).all() and maps.max() == 0


def test_bad_crop_settings():
    sample = samples()[0]
    with pytest.raises(DataError, match="no samples"):
        NucleiCrops([])
    with pytest.raises(ValueError, match="heads 2"):
        NucleiCrops([sample], heads=2)
    sample.labels = None
    with pytest.raises(DataError, match="image s0 has no labels"):
        NucleiCrops([sample])


def plain_crops(monkeypatch, labels, **settings):
    """Crops of an image whose gray levels are its labels, without changes of intensity."""
    monkeypatch.setattr("tinynet.data.crops.INTENSITY", lambda image, labels, rng: (image, labels))
    image = (labels * 50).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    return NucleiCrops([Sample("plain", image, labels, "fluorescence", "g")], **settings)


def test_native_crops_come_in_all_eight_orientations_with_the_border_of_their_labels(monkeypatch):
    labels = squares((48, 48))
    data = plain_crops(monkeypatch, labels, size=48, target_diameter=None)  # a crop is the whole image
    whole = targets(labels, 3)[:, :, :2]
    assert 0 < whole[:, :, 1].sum() < whole[:, :, 0].sum()
    rotated = [np.rot90(side, k) for side in (whole, whole[:, ::-1]) for k in range(4)]
    seen = set()
    for seed in range(60):
        _, maps = data.item(0, np.random.default_rng(seed))
        (found,) = [i for i, t in enumerate(rotated) if np.array_equal(t, maps[:, :, :2])]
        seen.add(found)
    assert seen == set(range(8))


def test_six_crops_of_ten_lie_near_a_nucleus_at_varying_places(monkeypatch):
    labels = np.zeros((600, 600), np.int32)
    labels[295:305, 295:305] = 1
    data = plain_crops(monkeypatch, labels, size=64, heads=1, target_diameter=None)
    masks = [data.item(0, np.random.default_rng(seed))[1][:, :, 0] for seed in range(120)]
    places = np.array([np.argwhere(mask).mean(axis=0) for mask in masks if mask.any()])
    assert 0.5 < len(places) / len(masks) < 0.75  # one in a hundred without NEAR_A_NUCLEUS
    assert np.all(np.ptp(places, axis=0) > 20) and np.abs(places - 31.5).max() < 32


@pytest.mark.parametrize(("steady", "near", "far"), [(0.0, 0.51, 0.25), (0.7, 0.82, 0.08), (1.0, 0.95, 0.0)])
def test_steady_crops_have_nearly_the_common_scale(steady, near, far):
    data = NucleiCrops(samples()[:1], size=32, target_diameter=24, steady=steady)
    source = data._sources[0]
    scales = [data._draw_map(source, np.random.default_rng(seed))[0] for seed in range(1000)]
    errors = np.abs(np.log(np.array(scales) * source.diameter / 24))
    assert np.mean(errors < 0.24) == pytest.approx(near, abs=0.04)  # two of the small spreads
    assert np.mean(errors > 0.4) == pytest.approx(far, abs=0.03)


def test_shrunken_crops_average_over_pixels(monkeypatch):
    """A checkerboard of single pixels, at an eighth of its size, is gray: crops average and do not pick pixels."""
    for name in ("SMALL_SPREAD", "LARGE_SPREAD"):
        monkeypatch.setattr(f"tinynet.data.crops.{name}", 0)
    labels = np.ones((512, 512), np.int32)
    monkeypatch.setattr("tinynet.data.crops.INTENSITY", lambda image, labels, rng: (image, labels))
    checkerboard = (np.indices(labels.shape).sum(axis=0) % 2 * 200).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    sample = Sample("checkerboard", checkerboard, labels, "fluorescence", "g")
    data = NucleiCrops([sample], size=32, target_diameter=median_diameter(labels) / 8)
    for seed in range(3):
        image, _ = data.item(0, np.random.default_rng(seed))
        assert np.ptp(image) < 0.05


def test_the_intensities_of_crops_are_changed_and_kept_within_limits(monkeypatch):
    data = NucleiCrops(samples()[:1], size=32)
    for change, expected in ((10, 2), (-10, -0.5)):
        monkeypatch.setattr(
            "tinynet.data.crops.INTENSITY", lambda image, labels, rng, change=change: (image + change, labels)
        )
        image, _ = data.item(0, np.random.default_rng(0))
        assert image.dtype == np.float32 and np.all(image == expected)
