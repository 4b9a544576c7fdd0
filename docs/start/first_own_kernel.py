r"""
Your first own kernel
=====================

Underneath each layer there are *kernels*: functions that compute with plain arrays. You write one of them, the weight
gradient of a convolution. A check says whether it is right, and a net learns with it. Then you break it, to see what
the check says, and make it a hundred times faster with one line.

You need tinynet, and the training loop of *Your first net*.
"""

# %%
# What it should compute
# ----------------------
#
# A convolution slides a small window of weights over an image: one output is the sum of the pixels under the window,
# each times its weight. In tinynet an image has the shape (height, width, channels), and a batch has the number of
# images in front. For output pixel :math:`(o_y, o_x)` and padding :math:`p`:
#
# .. math::
#    y[n, o_y, o_x, c_o] = \sum_{k_y, k_x, c_i} x[n, o_y + k_y - p, o_x + k_x - p, c_i] \, w[k_y, k_x, c_i, c_o]
#
# In the backward pass the kernel gets ``gy``, the gradient of the loss for each output. How does the loss change with
# one weight? The weight :math:`w[k_y, k_x, c_i, c_o]` multiplies one pixel for each output pixel of each image, so its
# gradient is the sum of all these pixels, each times the gradient of the output it went into:
#
# .. math::
#    gw[k_y, k_x, c_i, c_o] = \sum_{n, o_y, o_x} x[n, o_y + k_y - p, o_x + k_x - p, c_i] \, gy[n, o_y, o_x, c_o]
#
# Write it in loops
# -----------------
#
# One loop for each letter of the formula. The padding is zeros around the image, so a pixel outside adds nothing:
# ``continue``.

import time

import matplotlib.pyplot as plt
import numpy as np

import tinynet as tn
from tinynet import nn, optim


def add_up(x, gy, gw, padding):
    images, height, width, inputs = x.shape
    rows, columns, outputs = gy.shape[1:]
    for n in range(images):
        for oy in range(rows):
            for ox in range(columns):
                for ky in range(gw.shape[0]):
                    for kx in range(gw.shape[1]):
                        iy, ix = oy + ky - padding, ox + kx - padding
                        if not (0 <= iy < height and 0 <= ix < width):
                            continue
                        for ci in range(inputs):
                            for co in range(outputs):
                                gw[ky, kx, ci, co] += x[n, iy, ix, ci] * gy[n, oy, ox, co]


# %%
# tinynet calls the kernel with the two arrays, the size of the window, and the *geometry*: stride, padding, and so on.
# This kernel is for stride 1; it says so instead of returning something wrong.


def backward_weight(x, gy, kernel_size, geometry):
    if geometry.stride != (1, 1) or geometry.dilation != (1, 1) or geometry.groups != 1:
        raise NotImplementedError("only for stride 1, dilation 1 and groups 1")
    gw = np.zeros((*kernel_size, x.shape[3], gy.shape[3]), x.dtype)
    add_up(x, gy, gw, geometry.padding[0])
    return gw


# %%
# Is it right?
# ------------
#
# Within ``use_kernels`` every convolution uses your kernel instead of tinynet's. ``gradcheck`` changes each weight a
# little, looks how the output changes, and compares this with what your kernel says. It uses float64, for which such a
# comparison is exact to many digits.

rng = np.random.default_rng(0)
x, w = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(3, 3, 3, 4))


def check(kernel):
    with tn.use_kernels("conv2d", backward_weight=kernel):
        return tn.gradcheck(lambda x, w: tn.conv2d(x, w, padding=1), (x, w), raise_error=False)


print(check(backward_weight))

# %%
# See it wrong
# ------------
#
# Forget the last row of outputs, an easy mistake. The result still has the right shape, and a net
# that is trained with it even learns, a little worse than it could. You would hardly notice. The check does:


def without_last_row(x, gy, kernel_size, geometry):
    gw = np.zeros((*kernel_size, x.shape[3], gy.shape[3]), x.dtype)
    add_up(x, gy[:, :-1], gw, geometry.padding[0])
    return gw


report = check(without_last_row)
print(report)

# %%
# It says which weights are wrong, and it names the mistake. The last kernel row is right: with padding it only meets
# zeros there. Such a detail would cost you an evening.
#
# Let a net learn with it
# -----------------------
#
# A net that tells disks from rings. Its two convolutions ask for a weight gradient in each step, and they ask you:


def disks_and_rings(count):
    kinds, across = np.arange(count) % 2, np.arange(12)
    centers = rng.uniform(4, 8, size=(2, count, 1, 1))
    distance = np.hypot(across[:, None] - centers[0], across - centers[1])
    images = (distance < 3.5) & ((distance > 1.8) | (kinds == 0)[:, None, None])
    return (images + rng.normal(0, 0.3, images.shape))[..., None].astype("float32"), kinds


images, kinds = disks_and_rings(16)
figure, axes = plt.subplots(1, 6, figsize=(9, 1.8), layout="constrained")
for place, image, kind in zip(axes, images, kinds):
    place.imshow(image[..., 0], cmap="gray")
    place.set_title(("disk", "ring")[kind])
    place.axis("off")
plt.show()
# sphinx_gallery_thumbnail_number = 2


# %%
def make_net():
    tn.seed(0)
    first = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool2d()]
    return nn.Sequential(*first, *second, nn.Linear(8, 1))


def learn(steps, **kernels):
    net = make_net()
    optimizer = optim.Adam(net.parameters(), lr=0.03)
    losses, times = [], []
    with tn.use_kernels("conv2d", **kernels):
        for _ in range(steps):
            begin = time.perf_counter()
            loss = tn.bce_with_logits(net(tn.tensor(images)), kinds[:, None])
            optimizer.zero_grad()
            loss.backward()  # here the kernel runs
            optimizer.step()
            losses.append(loss.item())
            times.append(time.perf_counter() - begin)
    print(f"loss {losses[0]:.3f}, then {losses[-1]:.3f}; {1000 * min(times):.1f} ms a step")
    return losses


slow = learn(steps=3, backward_weight=backward_weight)

# %%
# It learns, and it is slow: Python looks up each element, each time, in seven loops.
#
# Make it fast
# ------------
#
# Numba compiles a function of loops to machine code. Your loops stay as they are; they need one more line, the
# *decorator* ``@njit`` above ``def``. Because ``add_up`` exists already, we write the same as a call:

from numba import njit

compiled_add_up = njit(add_up)


def compiled(x, gy, kernel_size, geometry):
    gw = np.zeros((*kernel_size, x.shape[3], gy.shape[3]), x.dtype)
    compiled_add_up(x, gy, gw, geometry.padding[0])
    return gw


print("right" if check(compiled).passed else "wrong")

# %%
# Always check again after you have made something faster. Now the net can be trained to the end:

losses = learn(steps=150, backward_weight=compiled)

# %%
# One line, and a step is more than a hundred times faster. Is there anything left for tinynet's own kernel? On a larger
# batch, measure ``backward`` alone, which here computes nothing but this gradient:


def race(**kernels):
    generator = np.random.default_rng(1)
    x = tn.tensor(generator.normal(size=(4, 64, 64, 16)).astype("float32"))
    w = tn.tensor(generator.normal(size=(3, 3, 16, 32)).astype("float32"), requires_grad=True)
    times = []
    with tn.use_kernels("conv2d", **kernels):
        for _ in range(5):
            w.grad = None
            total = tn.conv2d(x, w, padding=1).sum()
            begin = time.perf_counter()
            total.backward()
            times.append(1000 * (time.perf_counter() - begin))
    return w.grad.numpy(), min(times)


(yours, your_time), (ours, our_time) = race(backward_weight=compiled), race()
difference = np.abs(yours - ours).max() / np.abs(ours).max()
print(f"yours {your_time:.1f} ms, tinynet's {our_time:.1f} ms; difference {difference:.0e} of the largest value")

# %%
# Both are right: the difference is the rounding of float32. tinynet's kernel is faster because it keeps many sums in
# registers, and computes 8 or 16 of them with one instruction. *The register block* explains it.
#
# A last experiment: what if your gradient had the wrong sign?

wrong = learn(steps=150, backward_weight=lambda *arguments: -compiled(*arguments))
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.plot(losses, label="your kernel")
axes.plot(wrong, label="your kernel with the wrong sign")
axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
axes.legend()
plt.show()

# %%
# Your first exercise
# -------------------
#
# You have just done most of one: *conv-04* asks for this kernel, with stride. There are 29 exercises, each with hints
# and with a check that recognizes the usual mistakes. Write in a terminal:
#
# .. code-block:: text
#
#     python -m tinynet exercises                  # what there is, and what comes next
#     python -m tinynet exercises start conv-04    # writes my_exercises/conv-04.py, with a gap to fill
#     python -m tinynet exercises check conv-04    # right, or which element is wrong, and why
#
# And compare your kernel with those of the project: ``python -m tinynet op conv2d`` lists them, how exact and how fast
# each of them is on this machine.
