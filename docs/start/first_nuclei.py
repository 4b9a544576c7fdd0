r"""
Your first nuclei
=================

Find the nuclei in a microscope image, count them, measure them, and draw them: first with a threshold, then with the
U-Net that comes with tinynet. You see what each step returns, and where both are wrong. At the end you do the same with
an image of your own.

All you need is tinynet; the image and the weights of the net come with it.
"""

# %%
# An image
# --------
#
# Fluorescence: a dye makes the DNA shine, so the nuclei are bright. The image is from the 2018 Data Science Bowl
# (BBBC038, CC0). The net has not seen it in training, and it is not an easy one: many nuclei touch, some are out of
# focus. Experts have outlined 58 nuclei; ``labels`` holds 0 for the background and the number of its nucleus for each
# other pixel.

import matplotlib.pyplot as plt
import numpy as np

import tinynet as tn

sample = tn.data.example_nuclei()
image, truth = sample.image, sample.labels
print("image", image.shape, image.dtype, "  labels", truth.shape, "from", truth.min(), "to", truth.max())


def show(titles, images, cmap="gray", **options):
    _, axes = plt.subplots(1, len(images), figsize=(4.6 * len(images), 4), layout="constrained", squeeze=False)
    for place, title, drawing in zip(axes[0], titles, images):
        place.imshow(drawing, cmap=cmap, **options)
        place.set_title(title)
        place.axis("off")
    plt.show()


# sphinx_gallery_thumbnail_number = 4
show(["the image, brightened", "outlined by experts"], [tn.viz.stretch(image), tn.viz.overlay(image, truth)])

# %%
# Without a net: a threshold
# --------------------------
#
# Otsu's method (1979) looks for the gray level that separates dark and bright pixels best. If each connected region is
# then called a nucleus, nuclei that touch become one. A *watershed* cuts them at their necks: it sees the distance to
# the background as hills, one for each nucleus, and cuts in the valleys between them.

bright = tn.instances.otsu_foreground(image)
blobs = tn.instances.connected_components(bright)
cut = tn.instances.distance_watershed(bright)
print(f"{truth.max()} nuclei; the threshold finds {blobs.max()} regions, cut into {cut.max()} pieces")
drawings = [bright, tn.viz.overlay(image, blobs), tn.viz.overlay(image, cut)]
show(["above the threshold", "connected regions", "cut by a watershed"], drawings)

# %%
# Dim nuclei fall to pieces, and bright neighbors stay together: the threshold looks at one pixel at a time.
#
# With a net: three maps
# ----------------------
#
# The U-Net is a script that you can read from top to bottom, ``examples/segmentation/unet_nuclei.py``; it comes with
# the package, too. ``tn.nuclei.load_net`` makes the net, loads the shipped weights into it, and returns it as a
# function on arrays. For each pixel it answers three questions with a probability: is this a nucleus? is this the
# border between two nuclei that touch? how far inside is it?

net = tn.nuclei.load_net()
print(f"{sum(p.size for p in net.model.parameters()):,} weights")

scale = tn.segment.estimate_scale(net, image)
maps = tn.segment.predict_maps(net, tn.data.normalize(image), scale)
print(f"scale {scale:.2f}; maps {maps.shape}, from {maps.min():.2f} to {maps.max():.2f}")
show(["nucleus?", "touching border?", "how far inside?"], np.moveaxis(maps, 2, 0), vmin=0, vmax=1, cmap="magma")

# %%
# The net was trained on nuclei of 24 pixels, so the image is first scaled until its nuclei have about this size.
#
# From maps to nuclei
# -------------------
#
# The seeds are the insides: pixels that are nucleus, but no border. A watershed lets each seed grow until it meets
# another one or leaves the mask. Then the label image goes back to the size of the image. All of this, from the
# image to the nuclei, is the one call ``tn.nuclei.segment(image, flips=False)``.

found = tn.segment.labels_at_scale(maps, scale, image.shape[:2])
show(
    [f"watershed: {cut.max()} pieces", f"U-Net: {found.max()} nuclei"],
    [tn.viz.comparison_overlay(image, truth, labels) for labels in (cut, found)],
)

# %%
# Blue is found, yellow is missed, orange is a false alarm. A nucleus counts as found if it overlaps well with an
# outlined one: the shared pixels are more than half of all pixels of both (*IoU* above 0.5). The *mean AP* asks again
# with stricter limits, up to 0.95, and takes the mean:

for name, labels in (("threshold", blobs), ("threshold, watershed", cut), ("U-Net", found)):
    dice = tn.metrics.dice(truth > 0, labels > 0)
    print(f"{name:<20} Dice {dice:.3f}   mean AP {tn.metrics.mean_ap(truth, labels):.3f}")

# %%
# Look at the two columns: *Dice* only asks which pixels are nucleus. The mean AP asks for single nuclei, and there the
# difference is much larger.
#
# Measure them
# ------------
#
# One row for each nucleus. This is why one segments at all: from here on it is statistics.

rows = tn.instances.measure(found, image)
print({name: round(value, 2) for name, value in rows[0].items()})
area, circularity = (np.array([row[name] for row in rows]) for name in ("area", "circularity"))
print(f"median area {np.median(area):.0f} pixels; {np.mean(circularity < 0.8):.0%} have a circularity below 0.8")

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
points = axes.scatter(area, circularity, c=[row["mean_intensity"] for row in rows], cmap="magma", edgecolor="0.5")
axes.set(xlabel="area (pixels)", ylabel="circularity (1: a disc)")
figure.colorbar(points, label="mean gray level")
plt.show()

# %%
# Look first at nuclei that are small and far from round: some are cut in two, or cut off by the edge of the image.
#
# Make it fail
# ------------
#
# A net knows what it was trained on. Say a wrong diameter, and it sees nuclei of a size that it has never seen:

diameter = tn.segment.DIAMETER / scale
for times in (4, 1, 1 / 3):
    labels = tn.nuclei.segment(image, diameter * times, flips=False)
    score = tn.metrics.mean_ap(truth, labels)
    print(f"diameter {diameter * times:.0f} pixels: {labels.max()} nuclei, mean AP {score:.3f}")

# %%
# An image of your own
# --------------------
#
# Write the path of your file instead of ``None`` and run the block again: PNG, TIFF, JPEG or BMP, 8 or 16 bit, of any
# size. ``doubt`` says in a sentence why the result may be wrong, and nothing if it looks right.

path = None  # for instance "my_cells.tif"
if path:
    [(name, mine)] = tn.data.read_images(path)
    [mine_found] = tn.nuclei.segment_many(net, [mine])
    print(name, mine_found.labels.max(), "nuclei", mine_found.doubt)
    show(["yours"], [tn.viz.overlay(mine, mine_found.labels)])

# %%
# For a folder of images there is a command. It writes label images, drawings and a table of measurements:
#
# .. code-block:: text
#
#     tinynet nuclei predict my_folder
#
# If the net does not find your nuclei, train it on your own images: ``train --data my_images`` takes a folder with
# ``images/`` and ``labels/``. *Nuclei in your own images* (``docs/nuclei.md``) describes both commands;
# ``docs/nuclei_training.md`` says how the shipped net was trained, and how good it is on 130 images that it has not
# seen.
