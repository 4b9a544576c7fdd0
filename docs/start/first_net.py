r"""
Your first net
==============

In ten minutes you train a net that separates two interlocked half circles, and you know what each line of it does: a
tensor, a gradient, a layer, a loss, a step downhill. At the end you break it in four ways, because you will meet each
of these mistakes again.

Run the blocks one after another, and change a value wherever you wonder what it does. All you need is tinynet. When it
runs for the first time it compiles its kernels, which takes up to half a minute.
"""

# %%
# The data
# --------
#
# The data are 200 points in the plane. Half of them lie on an upper half circle (class 0), the other half on a lower
# one (class 1). We make them here, so that you see everything there is: ``x`` holds a point in each row, ``t`` holds
# the class that the net should find, the target.

import matplotlib.pyplot as plt
import numpy as np

import tinynet as tn
from tinynet import nn, optim, viz

rng = np.random.default_rng(0)
t = np.arange(200) % 2
angle = rng.uniform(0, np.pi, 200)
x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
x[t == 1] = (1, 0.5) - x[t == 1]  # class 1: upside down, and shifted
x = (x + rng.normal(0, 0.15, x.shape)).astype("float32")
print("x", x.shape, x.dtype, "  t", t.shape, t[:6])

# %%
colors = np.array([viz.mpl(viz.BLUE), viz.mpl(viz.ORANGE)])
figure, axes = plt.subplots(figsize=(6, 4))
axes.scatter(*x.T, c=colors[t], s=20)
axes.set(title="blue: class 0, orange: class 1", aspect="equal")
plt.show()
# sphinx_gallery_thumbnail_number = 2

# %%
# A tensor and its gradient
# -------------------------
#
# A *tensor* is an array that remembers how it was computed. Take the smallest net there is, with one weight ``w``: it
# answers ``w * 2``, and the answer should be 10. The *loss* says how wrong it is: the square of the difference.

w = tn.tensor(3.0, requires_grad=True)
loss = (w * 2 - 10) ** 2
print("loss", loss.item())

# %%
# ``backward`` computes how fast the loss changes with the weight, and puts it into ``w.grad``. Do it by hand first: the
# derivative of :math:`(2w - 10)^2` is :math:`2 \, (2w - 10) \cdot 2`. At :math:`w = 3` this is
# :math:`2 \cdot (-4) \cdot 2 = -16`.

loss.backward()
print("gradient", w.grad.item())

# %%
# The gradient is negative: a larger weight has a smaller loss. So take a step *against* the gradient. The factor 0.1
# is the *learning rate*.

w = tn.tensor(3.0 - 0.1 * w.grad.item())
print("new weight", round(w.item(), 2), "  new loss", round(((w * 2 - 10) ** 2).item(), 2))

# %%
# From 16 to 0.64 in one step. This is all that training is: compute the loss, compute the gradient, take a step, and
# again. For a net with thousands of weights nobody derives the gradient by hand, but you can always check it: change an
# input a little, look how the loss changes, and compare. ``gradcheck`` does this for each element of each input, and
# raises an error if one gradient is wrong.

points, weights = rng.normal(size=(5, 2)), rng.normal(size=(2, 3))
print(tn.gradcheck(lambda x, w: tn.tanh(x @ w), (points, weights)))

# %%
# A layer
# -------
#
# A *layer* is a function with weights. ``nn.Linear(2, 16)`` takes the 2 coordinates of a point and gives 16 values,
# each a weighted sum of the coordinates. It is one matrix product, and you can compute it yourself:

tn.seed(0)
layer = nn.Linear(2, 16)
for name, parameter in layer.named_parameters():
    print(name, parameter.shape)
by_hand = x @ layer.weight.numpy() + layer.bias.numpy()
print("largest difference", np.abs(layer(tn.tensor(x)).numpy() - by_hand).max())

# %%
# The net
# -------
#
# Two layers with a bend in between. Without the bend (here ``Tanh``), two matrix products would only be one matrix
# product again. The net's one output is the *logit*: above 0 it says class 1, below 0 it says class 0.


def make_net():
    tn.seed(0)  # the same initial weights each time
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))


net = make_net()
print(nn.summary(net, x))

# %%
# The training loop
# -----------------
#
# Five lines, which you will find in every script of this project. ``bce_with_logits`` is the usual loss for two
# classes, the *cross-entropy*: it is large where the net is sure and wrong. ``Adam`` is an *optimizer*: it takes the
# step downhill, with a step size of its own for each weight.


def train(net, lr=0.02, steps=300, forget_zero_grad=False):
    optimizer = optim.Adam(net.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = tn.bce_with_logits(net(tn.tensor(x)), t[:, None])  # forward: how wrong is the net?
        if not forget_zero_grad:
            optimizer.zero_grad()  # forget the gradients of the last step
        loss.backward()  # backward: in which direction does each weight make it worse?
        optimizer.step()  # go the other way
        losses.append(loss.item())
    return losses


losses = train(net)
print(f"loss: {losses[0]:.3f} before, {losses[-1]:.3f} after training")

# %%
# The curve tells whether the net learns. The regions tell what it has learned: the background shows what the net
# answers at each place of the plane. The line between the colors is where its logit is 0.


def draw_regions(axes, net, title):
    across, down = np.meshgrid(np.linspace(-1.7, 2.7, 120), np.linspace(-1.2, 1.7, 90))
    places = np.stack([across.ravel(), down.ravel()], axis=1).astype("float32")
    is_one = nn.predict(net, places).reshape(across.shape) > 0
    axes.contourf(across, down, is_one, levels=[-0.5, 0.5, 1.5], colors=colors, alpha=0.25)
    axes.scatter(*x.T, c=colors[t], s=10)
    wrong = np.mean((nn.predict(net, x)[:, 0] > 0) != t)
    axes.set(title=f"{title}: {wrong:.0%} wrong", aspect="equal")


figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
left.plot(losses)
left.set(xlabel="step", ylabel="loss", ylim=(0, None), title="training curve")
draw_regions(right, net, "trained net")
plt.show()

# %%
# Four mistakes to make on purpose
# --------------------------------
#
# Everybody makes them. See once what they look like, and you will recognize them later.
#
# 1. **The learning rate is too large.** Each step jumps over the valley.
# 2. **The gradients are not set to zero.** ``backward`` *adds* to ``grad``, so that several losses can share a weight.
#    Without ``zero_grad`` each step uses the sum of all gradients so far, and most of them were right long ago.
# 3. **There is no bend.** Two linear layers can only draw a straight line, however long they train.
# 4. **All weights start at zero.** Then each of the 16 neurons answers 0, and the gradient of each weight is 0, too.

too_fast, keeps_gradients, without_bend, all_zero = (make_net() for _ in range(4))
without_bend = nn.Sequential(nn.Linear(2, 16), nn.Linear(16, 1))
for parameter in all_zero.parameters():
    parameter.data[...] = 0

mistakes = {
    "learning rate 10": (too_fast, train(too_fast, lr=10)),
    "no zero_grad": (keeps_gradients, train(keeps_gradients, forget_zero_grad=True)),
    "no bend": (without_bend, train(without_bend)),
    "zero weights": (all_zero, train(all_zero)),
}
figure, axes = plt.subplots(2, 4, figsize=(13, 5.4), layout="constrained")
for (title, (broken, curve)), above, below in zip(mistakes.items(), axes[0], axes[1]):
    draw_regions(above, broken, title)
    below.plot(losses, color="0.7", label="as it should be")
    below.plot(curve, label=title)
    below.set(xlabel="step", yscale="log", ylim=(0.03, 50))
    below.legend(loc="upper right")
axes[1, 0].set_ylabel("loss")
plt.show()

# %%
# Your turn
# ---------
#
# - How few neurons are enough? Replace 16 by 8, 4, 3, 2.
# - Replace ``nn.Tanh()`` by ``nn.ReLU()``. What happens to the line between the regions?
# - Increase the noise of the points from 0.15 to 0.4 and train for 3,000 steps with 100 neurons. The loss goes on
#   falling. Are the regions better? (This is *over-fitting*; the script ``mlp`` of the examples measures it.)
#
# What you have now is a training loop. A net for images differs in its layers only: the next page uses one with 23
# convolutions.
