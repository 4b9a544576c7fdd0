"""Adversarial examples: a change that nobody sees turns the answer of a net, on digits and on knee X-rays.

    python examples/interpretability/adversarial.py

Training moves the weights along the gradient of the loss, downhill. The same backward pass goes on to the image: this
gradient says how each pixel must change so that the loss *rises*. One step against the net is the fast gradient sign
method (FGSM):

    x' = x + epsilon sign(dL/dx)

No pixel changes by more than epsilon, but all pixels push in the same direction. If the net is linear, its score
changes by epsilon times the sum of all |w|, which grows with the number of pixels. Projected gradient descent (PGD)
starts at a random point near the image and takes many small steps; after each step it returns to the cube of images
that differ by at most epsilon. What to see:

- **The attack**: accuracy against epsilon for LeNet on MNIST, and for a net of ImageNet that has learned to grade
  knees. With an epsilon of 0.3, FGSM leaves LeNet an accuracy of 0.161, PGD none. An X-ray has more pixels than a
  digit, so a smaller epsilon is enough: if each pixel changes by *one of 256 gray levels*, the least that a file can
  hold, the accuracy falls from 0.51 to 0.015 (FGSM; in another run from 0.565 to 0.005). A quarter of a level does
  nearly the same.
- **The control**: random noise of the same size does little (0.957 and 0.55). The direction matters, not the size.
- **The defense**: adversarial training. Each step first attacks its own batch (one step of FGSM from a random start)
  and then learns from the attacked digits. The net keeps 0.843 under PGD and pays with 1.3 points of its accuracy on
  clean digits (0.976). It is defended up to the epsilon of its training, not beyond.
- **Is the defense real?** Many defenses only hide the gradient: the attack fails because it finds no direction, not
  because there is none. Then FGSM does more harm than PGD, or images made with the gradients of *another* net do more
  harm than images made with the net's own gradients. The table of attacks shows that neither is the case here: the
  images of another net leave 0.949 (and the plain net 0.719). 60 steps of PGD do hardly more harm than 20 (0.834),
  and an epsilon of 0.5, with which every image can become gray, leaves next to nothing (0.004), as it must.

The figures for digits are means of three runs on 500 test digits, those for knees of one run on 200 test X-rays (so
their standard error is 0.035).

Sources: Szegedy et al., Intriguing properties of neural networks, ICLR 2014; Goodfellow, Shlens, Szegedy, Explaining
and harnessing adversarial examples, ICLR 2015 (FGSM); Madry et al., Towards deep learning models resistant to
adversarial attacks, ICLR 2018 (PGD); Wong, Rice, Kolter, Fast is better than free, ICLR 2020 (one step is enough);
Athalye, Carlini, Wagner, Obfuscated gradients give a false sense of security, ICML 2018 (the checks); Finlayson et al.,
Adversarial attacks on medical machine learning, Science 363, 2019; data: LeCun et al. 1998 (MNIST), Chen et al. 2019
(knees).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, optim, viz
from tinynet.data import DataLoader, ImageSet, handwritten_digits, knees_or_synthetic
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, mean_over_seeds, option, print_settings, report, run

lenet = load_example("convnets/lenet_mnist.py").lenet  # read that script first
fine_tuning = load_example("convnets/fine_tuning.py")  # EfficientNet-Lite0, as other scripts use it
TRAINED_FROM = 6  # the entry of EfficientNet-Lite0 from which on it is trained
BATCH = 50  # images that a net sees at once in an attack
Array = np.ndarray
Rng = np.random.Generator


# ---------------------------------------------------------------------------------------- the attacks
def gradient_of_images(model: nn.Module, x: Array, labels: Array) -> tuple[Array, Array]:
    """(the gradient of the loss with respect to the images, the answers of the net (N,)).

    x: (N, H, W, C). The gradient has the shape of x. Freeze the weights first: their gradients are not needed.
    """
    gradients, answers = [], []
    for first in range(0, len(x), BATCH):
        images = tn.tensor(x[first : first + BATCH]).to(tn.device()).requires_grad_()
        logits = model(images)
        loss = tn.softmax_cross_entropy(logits, labels[first : first + BATCH])
        gradients.append(tn.grad(loss, images).numpy())
        answers.append(logits.numpy().argmax(axis=1))
    return np.concatenate(gradients), np.concatenate(answers)


def clipped(moved: Array, x: Array, epsilon: float) -> Array:
    """The nearest image with gray levels from 0 to 1 that differs from x by at most epsilon in each pixel."""
    return np.clip(moved, np.maximum(x - epsilon, 0), np.minimum(x + epsilon, 1)).astype(x.dtype)


def random_start(x: Array, epsilon: float, rng: Rng) -> Array:
    """A random image that differs from x by at most epsilon in each pixel."""
    return clipped(x + rng.uniform(-epsilon, epsilon, x.shape), x, epsilon)


# An attack gets the net, images x (N, H, W, C) with gray levels from 0 to 1, their classes, epsilon and a generator.
Attack = Callable[[nn.Module, Array, Array, float, Rng], Array]


def noise(model: nn.Module, x: Array, labels: Array, epsilon: float, rng: Rng) -> Array:
    """The control: each pixel changes by +epsilon or -epsilon at random."""
    return clipped(x + epsilon * rng.choice((-1, 1), x.shape), x, epsilon)


def fgsm(model: nn.Module, x: Array, labels: Array, epsilon: float, rng: Rng) -> Array:
    """Fast gradient sign method (Goodfellow 2015): one step of length epsilon."""
    gradient, _ = gradient_of_images(model, x, labels)
    return clipped(x + epsilon * np.sign(gradient), x, epsilon)


def pgd(model: nn.Module, x: Array, labels: Array, epsilon: float, rng: Rng, steps: int, stop: bool = True) -> Array:
    """Projected gradient descent (Madry 2018): `steps` steps of length 2.5 epsilon / steps from a random start.

    stop: leave an image alone as soon as the net misreads it. Images that are to mislead another net must go on.
    """
    moved = random_start(x, epsilon, rng)
    left = np.arange(len(x))  # the images that are still attacked
    for _ in range(steps):
        gradient, answers = gradient_of_images(model, moved[left], labels[left])
        right = (answers == labels[left]) | (not stop)
        left = left[right]
        if len(left) == 0:
            break
        step = 2.5 * epsilon / steps * np.sign(gradient[right])
        moved[left] = clipped(moved[left] + step, x[left], epsilon)
    return moved


def accuracy(model: nn.Module, x: Array, labels: Array) -> float:
    """The share of images that the net reads correctly."""
    return float(np.mean(nn.predict(model, x, BATCH).argmax(axis=1) == labels))


# ---------------------------------------------------------------------------------------- the defense
def train(digits: ImageSet, epochs: int, epsilon: float, config: Config, seed: int) -> nn.Module:
    """LeNet. If epsilon is above 0, each batch is attacked before the net learns from it: adversarial training."""
    tn.seed(seed)
    rng = np.random.default_rng(seed)
    model = lenet().to(tn.device())
    optimizer = optim.Adam(model.parameters(), config.lr)
    loader = DataLoader(list(zip(as_input(digits), digits.labels)), config.batch_size, seed=seed)
    steps = epochs * len(loader)
    schedule = optim.CosineDecay(optimizer, steps, warmup=steps // 10, floor=0.01)
    for x, labels in tqdm(loader.steps(steps), "training", steps, leave=False, disable=None):
        if epsilon:
            x = attack_to_learn_from(model, x, labels, epsilon, rng)
        loss = tn.softmax_cross_entropy(model(tn.tensor(x).to(tn.device())), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().freeze()


def attack_to_learn_from(model: nn.Module, x: Array, labels: Array, epsilon: float, rng: Rng) -> Array:
    """One step of length 1.25 epsilon from a random start (Wong 2020), so that the net cannot expect the step."""
    model.freeze()
    start = random_start(x, epsilon, rng)
    gradient, _ = gradient_of_images(model, start, labels)
    model.unfreeze()
    return clipped(start + 1.25 * epsilon * np.sign(gradient), x, epsilon)


def as_input(images: ImageSet) -> Array:
    """Gray levels as float32 from 0 to 1: (N, H, W, 1)."""
    return images.images.astype(np.float32) / 255


# ---------------------------------------------------------------------------------------- measurements
DIGIT_EPSILONS = (0.05, 0.1, 0.2, 0.3, 0.4)  # gray levels run from 0 to 1
KNEE_EPSILONS = tuple(levels / 255 for levels in (0.0625, 0.125, 0.25, 0.5, 1))
Curves = dict[str, list[float]]  # name of an attack -> accuracy without it, and at each epsilon


def attacks(config: Config) -> dict[str, Attack]:
    """The attacks by name."""
    return {"noise": noise, "FGSM": fgsm, "PGD": partial(pgd, steps=config.steps)}


def curves(model: nn.Module, images: ImageSet, epsilons: Sequence[float], config: Config) -> Curves:
    """The accuracy under each attack."""
    x, labels = as_input(images), images.labels
    rng = np.random.default_rng(config.seed)
    clean = accuracy(model, x, labels)
    result = {name: [clean] for name in attacks(config)}
    for epsilon in tqdm(epsilons, "attacks", leave=False, disable=None):
        for name, attack in attacks(config).items():
            result[name].append(accuracy(model, attack(model, x, labels, epsilon, rng), labels))
    return result


def attacked(model: nn.Module, foreign: Array, images: ImageSet, config: Config, seed: int) -> dict[str, float]:
    """The accuracy without an attack, under each attack, and under three attacks that check the gradients.

    pgd_long: three times as many steps; if they do much more harm, there were too few. second: `foreign`, the images
    that PGD made with the gradients of another net. gray: PGD with an epsilon of 0.5, with which every image can
    become gray; if the net still reads it, the attack does not see the gradient.
    """
    x, labels = as_input(images), images.labels
    rng = np.random.default_rng(seed)
    moved = {"accuracy": x}
    moved |= {name.lower(): attack(model, x, labels, config.epsilon, rng) for name, attack in attacks(config).items()}
    moved["pgd_long"] = pgd(model, x, labels, config.epsilon, rng, 3 * config.steps)
    moved["second"] = foreign
    moved["gray"] = pgd(model, x, labels, 0.5, rng, config.steps)
    return {name: accuracy(model, images, labels) for name, images in moved.items()}


# ---------------------------------------------------------------------------------------- knees
class Grader(nn.Module):
    """Gray levels (N, H, W, 1) from 0 to 1 -> logits (N, classes), by the frozen and the trained entries of a net."""

    def __init__(self, front: nn.Module, tail: nn.Module) -> None:
        self.front, self.tail = front, tail

    def forward(self, x: tn.Tensor) -> tn.Tensor:
        scaled = (255 * x - 127) / 128  # as `prepare` scales uint8 images, but differentiable
        return self.tail(self.front(tn.broadcast_to(scaled, (*x.shape[:3], 3))))


def load_knees(config: Config) -> tuple[ImageSet, ImageSet, str]:
    """(training set, test set, their source): X-rays, or drawings if there are no X-rays."""
    parts, source = knees_or_synthetic(config.data, config.seed, size=config.size, synthetic=config.quick)
    rng = np.random.default_rng(config.seed)
    training, test = (parts[part][0] for part in ("train", "test"))
    training = training.subset(rng.permutation(len(training))[: config.knees])
    return training, test.subset(rng.permutation(len(test))[: config.test_knees]), source


def train_grader(knees: ImageSet, config: Config) -> nn.Module:
    """EfficientNet-Lite0 with the weights of ImageNet, trained to grade knees."""
    tn.seed(config.seed)
    front, tail = fine_tuning.split(len(knees.classes), TRAINED_FROM)
    features = fine_tuning.features(front, knees.images)
    fine_tuning.fine_tune(tail, features, knees.labels, epochs=config.knee_epochs, seed=config.seed)
    return Grader(front, tail).eval().freeze()


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/adversarial", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    seeds: int = option(3, "runs with digits, with seeds from --seed on; the knees have one run", quick=1)
    digits: int = option(60000, "digits to learn from, at most", quick=400)
    epochs: int = option(1, "passes over the digits for a plain net", quick=4)
    robust_epochs: int = option(2, "passes over the digits for adversarial training", quick=4)
    epsilon: float = option(0.3, "largest change of a pixel in training and in the table of attacks", quick=0.1)
    steps: int = option(20, "steps of PGD", quick=5)
    batch_size: int = option(50, "digits in a step")
    lr: float = option(1e-2, "highest learning rate for digits (Adam; warm-up, then a cosine)")
    test: int = option(500, "test digits to attack, at most", quick=50)
    knees: int | None = option(None, "X-rays to learn from, at most (default: all)", quick=16)
    size: int = option(112, "height and width of an X-ray, pixels", quick=64)
    knee_epochs: int = option(2, "passes over the X-rays", quick=1)
    test_knees: int = option(200, "test X-rays to attack, at most", quick=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "digits", "epochs", "robust_epochs", "steps", "test", "knees", "knee_epochs", "test_knees")
        self.at_least(32, "size")
        if not 0 < self.epsilon <= 1:
            raise ValueError(f"--epsilon is {self.epsilon}; it must be above 0 and at most 1, the range of gray levels")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Attack LeNet, plain and adversarially trained, and the net for knees; return the accuracies."""
    training, test, source = handwritten_digits(config.data)
    order = np.random.default_rng(config.seed).permutation(len(test))
    training, test = training.subset(slice(config.digits)), test.subset(order[: config.test])
    knees, test_knees, knee_source = load_knees(config)
    print_settings(config, lenet(), digits=source, knees=knee_source, weights=fine_tuning.source())
    shown: dict[str, Curves] = {}
    figures: dict[str, viz.Figure] = {}

    def one_run(seed: int) -> dict[str, float]:
        nets = {"plain": train(training, config.epochs, 0, config, seed)}
        nets["robust"] = train(training, config.robust_epochs, config.epsilon, config, seed)
        second = train(training, config.epochs, 0, config, seed + 1000)  # other initial weights
        rng, x = np.random.default_rng(seed), as_input(test)
        foreign = pgd(second, x, test.labels, config.epsilon, rng, config.steps, stop=False)
        table = {name: attacked(net, foreign, test, config, seed) for name, net in nets.items()}
        rows = [{"net": name, **row} for name, row in table.items()]
        print(f"accuracy on test digits, epsilon {config.epsilon:g}\n{metrics.format_table(rows)}")
        print("pgd_long: three times as many steps; second: by the gradients of another net; gray: epsilon 0.5\n")
        if seed == config.seed:
            shown.update({name: curves(net, test, DIGIT_EPSILONS, config) for name, net in nets.items()})
            figures["digits.png"] = draw_digits(nets, test, config)
        results = {f"{net}_{attack}": figure for net, row in table.items() for attack, figure in row.items()}
        robust = table["robust"]
        return results | {"robust_margin": min(robust["fgsm"], robust["second"]) - robust["pgd"]}

    results = mean_over_seeds(one_run, config.seed, config.seeds)
    grader = train_grader(knees, config)
    shown["knees"] = curves(grader, test_knees, KNEE_EPSILONS, config)
    results |= knee_results(shown["knees"])
    figures = {"accuracy.png": draw_curves(shown, test_knees), **figures, "knee.png": draw_knee(grader, test_knees)}
    real = {"knee": "drawings" not in knee_source}  # the bands hold for real data only
    expected = {name: band for name, band in EXPECTED.items() if real.get(name[:4], source.startswith("MNIST"))}
    return report(config, results, expected, figures, NEXT)


def knee_results(curve: Curves) -> dict[str, float]:
    """Accuracy of the net for knees without an attack and with a change of one of 256 gray levels."""
    place = 1 + KNEE_EPSILONS.index(1 / 255)
    return {"knee_accuracy": curve["noise"][0]} | {f"knee_{name.lower()}": row[place] for name, row in curve.items()}


# ---------------------------------------------------------------------------------------- figures
NETS = {"plain": "plain net", "robust": "adversarially trained net"}
STYLES = {"noise": ":", "FGSM": "--", "PGD": "-"}


def draw_curves(shown: dict[str, Curves], knees: ImageSet) -> viz.Figure:
    """Accuracy against epsilon: left both nets for digits, right the net for knees."""
    figure, (left, right) = viz.subplots(1, 2, figsize=(11, 5.4))
    for name, color in (("plain", viz.VERMILLION), ("robust", viz.BLUE)):
        for attack, row in shown[name].items():
            label = f"{NETS[name]}, {attack}"
            left.plot((0, *DIGIT_EPSILONS), row, STYLES[attack], marker="o", ms=4, color=viz.mpl(color), label=label)
    left.set(xlabel="epsilon (gray levels from 0 to 1)", title="LeNet, digits")
    levels = [0, *(255 * epsilon for epsilon in KNEE_EPSILONS)]
    for attack, row in shown["knees"].items():
        right.plot(levels, row, STYLES[attack], marker="o", ms=4, color=viz.mpl(viz.VERMILLION), label=attack)
    most = np.bincount(knees.labels).max() / len(knees)
    right.axhline(most, color="0.6", linewidth=1, label="always the most frequent grade")
    right.set(xlabel="epsilon (gray levels from 0 to 255)", title="EfficientNet-Lite0, five grades of knees")
    for axes in (left, right):
        axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)
    return figure


def draw_digits(nets: dict[str, nn.Module], digits: ImageSet, config: Config) -> viz.Figure:
    """A digit of each class, its change by FGSM and the answer, for both nets."""
    chosen = [int(np.argmax(digits.labels == label)) for label in np.unique(digits.labels)]
    x, labels = as_input(digits)[chosen], digits.labels[chosen]
    figure = viz.new_figure(1.15 * len(chosen), 7.4)
    parts = figure.subfigures(3, 1, height_ratios=(1.15, 2, 2))
    parts[0].suptitle("test digits", fontsize=11)
    show_images(parts[0].subplots(1, len(chosen), squeeze=False)[0], x)
    for part, (name, net) in zip(parts[1:], nets.items()):
        moved = fgsm(net, x, labels, config.epsilon, np.random.default_rng(config.seed))
        answers = nn.predict(net, moved, BATCH).argmax(axis=1)
        part.suptitle(
            f"{NETS[name]}: change by FGSM, at most {config.epsilon:g} (red: brighter), and answer", fontsize=11
        )
        panels = part.subplots(2, len(chosen), squeeze=False)
        show_images(panels[0], moved - x, config.epsilon)
        show_images(panels[1], moved)
        for panel, answer, label in zip(panels[1], answers, labels):
            panel.set_title(f"{answer}", fontsize=11, color=viz.mpl(viz.BLUE if answer == label else viz.VERMILLION))
    return figure


def draw_knee(grader: nn.Module, knees: ImageSet) -> viz.Figure:
    """A knee, a change of one gray level in each pixel, and the knee with this change, with the answers."""
    x, labels = as_input(knees), knees.labels
    moved = fgsm(grader, x, labels, 1 / 255, np.random.default_rng(0))
    before, after = (tn.softmax(tn.tensor(nn.predict(grader, images, BATCH))).numpy() for images in (x, moved))
    answers, wrong = before.argmax(axis=1), after.argmax(axis=1)
    sure = before.max(axis=1) * after.max(axis=1)  # before and after the attack
    best = int(np.argmax((answers == labels) * np.abs(wrong - answers) * sure))
    figure, panels = viz.subplots(1, 3, figsize=(11, 4.4))
    show_images(panels[::2], np.stack([x[best], moved[best]]))
    show_images(panels[1:2], (moved - x)[best : best + 1], 1 / 255)
    for panel, chances, title in ((panels[0], before, "X-ray"), (panels[2], after, "with this change")):
        answer = int(chances[best].argmax())
        panel.set_title(
            f"{title}\nread as grade {knees.classes[answer]} ({chances[best, answer]:.0%} sure)", fontsize=11
        )
    panels[1].set_title("the change: one of 256 gray levels\n(red: brighter, blue: darker)", fontsize=11)
    return figure


def show_images(panels: Sequence, images: Array, limit: float | None = None) -> None:
    """Images (N, H, W, 1) side by side; with a limit they are changes from -limit (blue) to limit (red)."""
    cmap, low, high = ("gray", 0.0, 1.0) if limit is None else ("RdBu_r", -limit, limit)
    for panel, image in zip(panels, images):
        panel.imshow(image[:, :, 0], cmap=cmap, vmin=low, vmax=high)
        panel.axis("off")


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Adversarial examples: FGSM and PGD, and adversarial training"
DATA = "MNIST, 60,000 + 10,000 handwritten digits; knee X-rays with five grades (Chen et al.)"
FILES = ("mnist", "knee_oa/knee_oa_112.zip")
EXPECTED = {
    "plain_accuracy": (0.975, None),
    "plain_noise": (0.9, None),
    "plain_fgsm": (None, 0.3),
    "plain_pgd": (None, 0.02),
    "plain_second": (None, 0.9),
    "robust_accuracy": (0.955, None),
    "robust_fgsm": (0.88, None),
    "robust_pgd": (0.72, None),
    "robust_gray": (None, 0.1),
    "robust_margin": (0, None),
    "knee_accuracy": (0.45, None),
    "knee_noise": (0.45, None),
    "knee_fgsm": (None, 0.05),
    "knee_pgd": (None, 0.02),
}
PICTURE = "accuracy.png"
NEXT = "python examples/interpretability/soft_tree.py"


if __name__ == "__main__":
    run(main)
