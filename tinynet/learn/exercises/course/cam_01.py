"""Grad-CAM: where does a net look?

The last convolution of a net returns activations A (N, H, W, C), and the rest of the net turns them into a score for
each class. Which places of A speak for a class? Let gA be the gradient of its score s with respect to A:

    alpha[n, c]  = (1 / (H W)) sum over y, x of  gA[n, y, x, c]         how much channel c speaks for the class
    map[n, y, x] = relu( sum over c of  alpha[n, c] A[n, y, x, c] )     and where it does

relu keeps the places that speak *for* the class. Places with a negative sum speak against it, often for another one.

heat_map makes the picture that one looks at, for a class of your choice in each image:

1. Backpropagation is given: backward(gs) returns gA from gs (N, K), the upstream gradient of the scores. So that gA is
   the gradient of s[n, labels[n]], gs is 1 there and 0 elsewhere. Begin at the scores, not at the probabilities: the
   derivative of a softmax vanishes where the net is sure, and mixes in the other classes.
2. grad_cam gives maps of the size of A. `resize`, which is given, too, enlarges them to the size of the image.
3. Divide each map by its own maximum, so that it reaches from 0 to 1. A map of zeros stays as it is.

Source: Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, ICCV 2017.
"""

import numpy as np

from tinynet.learn.exercises.exercise import Right, Wrong
from tinynet.learn.exercises.probe import call, integers

TEACHES = "a gradient with respect to activations; backpropagation begins where you choose; what a heat map shows"
HINTS = (
    "alpha is a mean of gA over the axes 1 and 2. With keepdims=True it has the shape (N, 1, 1, C): alpha * A works.",
    "gs[:, labels] = 1 sets all labels in all rows. gs[np.arange(N), labels] = 1 sets one element in each row.",
    """
    alpha = gA.mean(axis=(1, 2), keepdims=True)
    map = np.maximum((alpha * A).sum(axis=3), 0)
    ...
    large = resize(grad_cam(A, backward(gs)))
    highest = large.max(axis=(1, 2), keepdims=True)      # divide by it, except where it is 0
    """,
)
USE = "heat_maps"
ANY_SMALL_CONSTANT = 1e-5  # relative; many programs add one to the maximum, so that they never divide by 0


# ---- your file
def grad_cam(A, gA):
    """The maps (N, H, W). A (N, H, W, C): activations; gA, of the shape of A: the gradient of the class's score."""
    # ---- solution
    alpha = gA.mean(axis=(1, 2), keepdims=True)
    return np.maximum((alpha * A).sum(axis=3), 0)
    # ---- end of solution


def heat_map(A, scores, labels, backward, resize):
    """The heat maps (N, H', W') of the classes labels (N,), from 0 to 1. A (N, H, W, C), scores (N, K).

    backward(gs): gA, of the shape of A, from gs (N, K). resize(maps): (N, H, W) -> (N, H', W').
    """
    # ---- solution
    gs = np.zeros(scores.shape)
    gs[np.arange(len(labels)), labels] = 1
    large = resize(grad_cam(A, backward(gs)))
    highest = large.max(axis=(1, 2), keepdims=True)
    return large / np.where(highest > 0, highest, 1)
    # ---- end of solution


# ---- end of your file


_MEAN, _SUM = "gA.mean(axis=(1, 2), keepdims=True)", "np.maximum((alpha * A).sum(axis=3), 0)"
_ONE = "gs[np.arange(len(labels)), labels] = 1"
_DIVIDED = "large / np.where(highest > 0, highest, 1)"
WRONG = (
    Wrong(
        "no relu",
        "The map has negative values: the relu is missing. Places that speak against the class get 0.",
        (_SUM, "(alpha * A).sum(axis=3)"),
    ),
    Wrong(
        "relu of each channel",
        "You cut the negative values of each channel. First sum over the channels, then relu: a channel that speaks "
        "against the class counts as such.",
        (_SUM, "np.maximum(alpha * A, 0).sum(axis=3)"),
    ),
    Wrong(
        "absolute value",
        "You take the absolute value where the relu belongs: places that speak against the class look like places that "
        "speak for it.",
        (_SUM, "np.abs((alpha * A).sum(axis=3))"),
    ),
    Wrong(
        "relu of the gradient",
        "You cut the negative values of gA. A negative gradient says that a channel speaks against the class: it "
        "belongs to the mean.",
        (_MEAN, "np.maximum(gA, 0).mean(axis=(1, 2), keepdims=True)"),
    ),
    Wrong(
        "sum for mean",
        "alpha is a sum over the pixels: the map is H W times too large. Divide by H W.",
        (_MEAN, "gA.sum(axis=(1, 2), keepdims=True)"),
    ),
    Wrong(
        "largest gradient",
        "alpha is the largest gradient of a channel. It is the mean over all pixels.",
        (_MEAN, "gA.max(axis=(1, 2), keepdims=True)"),
    ),
    Wrong(
        "mean over the batch",
        "alpha is a mean over the images, too. Each image has its own alpha, because the gradient is another one.",
        (_MEAN, "gA.mean(axis=(0, 1, 2), keepdims=True)"),
    ),
    Wrong(
        "gradient times activation",
        "You multiply A by the gradient of each pixel. Grad-CAM first takes the mean of the gradient over the pixels, "
        "so that a channel has one weight everywhere.",
        (_MEAN, "gA"),
    ),
    Wrong(
        "mean over the channels",
        "The map is a mean over the channels; it is their sum.",
        (_SUM, "np.maximum((alpha * A).mean(axis=3), 0)"),
    ),
    Wrong(
        "A and gA exchanged",
        "A and gA are exchanged: the weights come from the gradient, and what they weigh is A.",
        (_MEAN, "A.mean(axis=(1, 2), keepdims=True)"),
        (_SUM, "np.maximum((alpha * gA).sum(axis=3), 0)"),
    ),
    Wrong(
        "all classes",
        "gs is 1 for all classes: that is the gradient of the sum of all scores. It is 1 at labels[n] only.",
        (_ONE, "gs[...] = 1"),
    ),
    Wrong(
        "all labels in all images",
        "gs[:, labels] = 1 sets the labels of all images in each image. gs[np.arange(N), labels] = 1 sets one element "
        "in each row.",
        (_ONE, "gs[:, labels] = 1"),
    ),
    Wrong(
        "first label for all",
        "You ask for the label of the first image in all images. Each image has its own.",
        (_ONE, "gs[:, labels[0]] = 1"),
    ),
    Wrong(
        "best class",
        "You explain the class with the best score. Explain the class that is asked for, labels[n]; where the net "
        "errs, the two differ.",
        (_ONE, "gs[np.arange(len(labels)), scores.argmax(axis=1)] = 1"),
    ),
    Wrong(
        "scores as gradient",
        "Backpropagation begins with the scores themselves. It begins with the derivative of the one score with "
        "respect to all scores: 1 for itself, 0 for the others.",
        (_ONE, "gs += scores"),
    ),
    Wrong(
        "probability",
        "You differentiate the probability of the class (softmax), which mixes in the other classes. Grad-CAM "
        "differentiates its score.",
        (
            _ONE,
            "p = np.exp(scores - scores.max(axis=1, keepdims=True))\n    p /= p.sum(axis=1, keepdims=True)\n"
            "    rows = np.arange(len(labels))\n    gs -= p[rows, labels][:, None] * p\n"
            "    gs[rows, labels] += p[rows, labels]",
        ),
    ),
    Wrong(
        "not resized",
        "The map has the size of A. Enlarge it with `resize` to the size of the image.",
        ("resize(grad_cam(A, backward(gs)))", "grad_cam(A, backward(gs))"),
    ),
    Wrong(
        "not normalized",
        "The heat map is not divided by its maximum.",
        ("return " + _DIVIDED, "return large"),
    ),
    Wrong(
        "one maximum for the batch",
        "All maps are divided by the maximum of the batch. Each map has its own maximum.",
        ("large.max(axis=(1, 2), keepdims=True)", "large.max()"),
    ),
    Wrong(
        "0 / 0",
        "A map of zeros is divided by its maximum, 0 / 0 = NaN. No place speaks for the class: the heat map is 0.",
        (_DIVIDED, "large / highest"),
    ),
    Wrong(
        "divided by at least 1",
        "You divide by at least 1. That avoids 0 / 0, but a map whose maximum is below 1 keeps its size.",
        ("np.where(highest > 0, highest, 1)", "np.maximum(highest, 1)"),
    ),
    Wrong(
        "stretched from the minimum",
        "You subtract the minimum of the map. Then 0 no longer means that a place does not speak for the class.",
        (
            "    highest = large.max(axis=(1, 2), keepdims=True)\n",
            "    large = large - large.min(axis=(1, 2), keepdims=True)\n"
            "    highest = large.max(axis=(1, 2), keepdims=True)\n",
        ),
    ),
)
RIGHT = (
    Right(
        "einsum",
        (
            f"    alpha = {_MEAN}\n    return {_SUM}",
            '    alpha = np.einsum("nyxc->nc", gA) / (A.shape[1] * A.shape[2])\n'
            '    total = np.einsum("nc,nyxc->nyx", alpha, A)\n    return total * (total > 0)',
        ),
    ),
    Right(
        "rows of the identity",
        (f"    gs = np.zeros(scores.shape)\n    {_ONE}\n", "    gs = np.eye(scores.shape[1])[labels]\n"),
    ),
    Right("a small constant", ("np.where(highest > 0, highest, 1)", "(highest + 1e-8)")),
    Right(
        "image by image",
        (
            f"    highest = large.max(axis=(1, 2), keepdims=True)\n    return {_DIVIDED}",
            "    return np.stack([m / m.max() if m.any() else m for m in large])",
        ),
    ),
)


def probes(rng):
    for label, shape in (
        ("one channel", (1, 2, 4, 1)),
        ("three channels", (1, 4, 2, 3)),
        ("a batch of 2", (2, 2, 4, 5)),
    ):
        A, gA = np.abs(integers(rng, *shape)), integers(rng, *shape)
        gA[0, 0, 0, 0] += 1 - gA[0, ..., 0].sum()  # the first channel speaks for the class a little
        yield call(label, "grad_cam", A, gA, gives={"map": "n y x"})
    A = integers(rng, 2, 2, 2, 3)  # after an activation other than ReLU
    yield call("activations of both signs", "grad_cam", A, integers(rng, *A.shape), gives={"map": "n y x"})
    yield _of_classes(rng, "three images, four classes", 3, 4)
    yield _of_classes(rng, "five images, three classes", 5, 3)
    yield _of_classes(rng, "every place speaks for the class, a little", 2, 3, sign=1, scale=1 / 256)
    yield _of_classes(rng, "no place speaks for the class", 2, 3, sign=-1)


def _of_classes(rng, label, N, K, sign=0, scale=1.0):
    """A probe of heat_map with a linear head: s[n, k] = sum over y, x, c of A[n, y, x, c] V[y, x, c, k].

    sign: of all V; 0 for both signs. The activations are not negative, as after a ReLU; scale: a factor on them.
    """
    A, V = scale * np.abs(integers(rng, N, 2, 3, 4)), integers(rng, 2, 3, 4, K)
    V = sign * np.abs(V) if sign else V
    scores = np.einsum("nyxc,yxck->nk", A, V) / 8
    labels = (scores.argmax(axis=1) + 1 + np.arange(N)) % K  # not what the net answers, at least for the first image

    def backward(gs):
        if np.shape(gs) != (N, K):
            raise ValueError(f"backward needs gs of the shape of the scores, {(N, K)}; it got {np.shape(gs)}")
        return np.einsum("nk,yxck->nyxc", gs, V)

    return call(
        label, "heat_map", A, scores, labels, backward, resize, gives={"heat": "n y x"}, rtol=ANY_SMALL_CONSTANT
    )


def resize(maps):
    """Twice as many pixels less one along each axis: a new pixel is the mean of its neighbors."""
    for axis in (1, 2):
        n = np.arange(2 * maps.shape[axis] - 1)
        maps = (np.take(maps, n // 2, axis) + np.take(maps, (n + 1) // 2, axis)) / 2
    return maps


def library():
    import tinynet as tn

    def grad_cam(A, gA):
        alpha = tn.tensor(gA).mean((1, 2), keepdims=True)
        return tn.relu((alpha * A).sum(3)).numpy()

    def heat_map(A, scores, labels, backward, resize):
        s = tn.tensor(scores, requires_grad=True)
        gs = tn.grad(s[np.arange(len(labels)), labels].sum(), s).numpy()
        large = resize(grad_cam(A, backward(gs)))
        return np.stack([m / m.max() if m.any() else m for m in large])

    return {"grad_cam": grad_cam, "heat_map": heat_map}
