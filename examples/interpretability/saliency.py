"""Where does a net look? Saliency maps, one of them by swapping a kernel, and a test that such maps can fail.

    python examples/interpretability/saliency.py

Three maps of an image show which places matter for the score of a class:

- **gradient**: how much does the score change with each pixel? One backward pass, down to the image.
- **guided backpropagation**: the same backward pass, but each ReLU also drops negative gradients. That is another
  backward kernel, `gy * (y > 0) * (gy > 0)`, and the script swaps it in: `with use_kernels("relu", backward=...)`. The
  net does not change. (EfficientNet has ReLU6, so the kernel of ReLU6 is swapped too.) The engine looks a kernel up
  when it is called; layers that tinynet fuses otherwise, such as convolution and ELU, then run one by one.
- **Grad-CAM**: the activations A of a convolution, weighted by alpha, the mean gradient of each channel over the
  pixels; their sum, where it is positive. A coarse map, 12 x 12 or 7 x 7 pixels.

Three nets are explained. One grades **knees** (EfficientNet-Lite0 with the weights of ImageNet, fine-tuned). Two small
nets tell patches with **nuclei** from empty ones. They differ only in the gray scale of their patches. One net sees the
gray scale of the whole image. For the other, *shortcut*, each patch is stretched to all gray levels, so an empty patch
shows its noise. What to see:

- **A map finds a shortcut.** Both small nets are right for 93 % of the patches of other experiments. Nuclei cover 13 %
  of the pixels. They hold 27 % of the first net's gradient, but only 7 % of the other's: that net does not look at
  nuclei. It takes a background without noise for the sign of a nucleus. A test: all nuclei are painted over with the
  gray of the background. The first net still finds a nucleus in 17 % of these patches, the other in 86 %.
- **Random weights are a better baseline than the area.** The joint of the knee, a band of a quarter of the image, holds
  37 % of the map of guided backpropagation. With random weights, it holds even 41 %: guided backpropagation draws the
  edges of the image, and the joint has strong edges. For the gradient the shares are 28 % and 29 %, for Grad-CAM
  31 % and 28 %. So these maps hardly tell whether the net looks at the joint.
- **The sanity check** makes more and more layers random, from the last to the first, and compares the maps by the rank
  correlation of their pixels. If only the last layer of the knees' net is random, its grades are meaningless. The map
  of guided backpropagation does not change (correlation 1.00; still 0.92 with random weights from entry 12 on). The
  correlation falls to 0.37 for the gradient and to 0.14 for Grad-CAM. A map that does not depend on the answer
  cannot explain the answer. On the nuclei Grad-CAM passes with the last layer (-0.28), but not with all layers (0.44):
  whatever the weights are, the brightest places of such a patch are its nuclei.

Sources: Simonyan, Vedaldi, Zisserman, Deep inside convolutional networks, ICLR workshop 2014, section 3; Springenberg
et al., Striving for simplicity, ICLR 2015 workshop, section 3.4; Selvaraju et al., Grad-CAM, ICCV 2017, section 3;
Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018, section 3; shortcuts: Lapuschkin et al., Nature
Communications 10, 2019; data: Caicedo et al., Nature Methods 16, 2019 (nuclei, CC0); Chen et al., Computerized Medical
Imaging and Graphics 75, 2019 (knees, CC BY 4.0; images of the Osteoarthritis Initiative).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

import tinynet as tn
from tinynet import metrics, nn, viz
from tinynet.data import DataError, knees_or_synthetic
from tinynet.data.knees import GRADES
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import BACKENDS, ExampleOptions, command_line, option, print_settings, report, run

handcrafted = load_example("convnets/handcrafted_features.py")  # reads images of nuclei
efficientnet = load_example("convnets/efficientnet_lite0.py")
fine_tuning = load_example("convnets/fine_tuning.py")


# ---------------------------------------------------------------------------------------- the kernel that is swapped
def guided_relu(gy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The backward kernel of ReLU, with one factor more: negative gradients end here. gy, y: any shape."""
    return gy * (y > 0) * (gy > 0)


def guided_relu6(gy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The same for ReLU6, the activation of EfficientNet-Lite0."""
    return gy * (y > 0) * (y < 6) * (gy > 0)


# ---------------------------------------------------------------------------------------- three kinds of maps
def score_gradient(net: nn.Sequential, x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The gradient, with respect to x (N, ...), of the score (logit) of classes (N,) of the same examples."""
    given = tn.tensor(x).to(tn.device()).requires_grad_()  # on its device, a leaf
    scores = net(given)
    chosen = np.eye(scores.shape[1], dtype=x.dtype)[classes]
    (scores * tn.tensor(chosen).to(tn.device())).sum().backward()  # no example has an influence on another's score
    return given.grad.numpy()


def gradient(net: nn.Sequential, images: np.ndarray, classes: np.ndarray, layer: int) -> np.ndarray:
    """How much does the score change with each pixel? The largest |gradient| of the channels, (N, H, W)."""
    return np.abs(score_gradient(net, images, classes)).max(axis=3)


def guided_backpropagation(net: nn.Sequential, images: np.ndarray, classes: np.ndarray, layer: int) -> np.ndarray:
    """The same call as for the gradient, with other backward kernels."""
    with tn.use_kernels("relu", backward=guided_relu), tn.use_kernels("relu6", backward=guided_relu6):
        return gradient(net, images, classes, layer)


def grad_cam(net: nn.Sequential, images: np.ndarray, classes: np.ndarray, layer: int) -> np.ndarray:
    """Which activations of entries 0 .. layer - 1 of the net speak for the class? Enlarged to the images, (N, H, W)."""
    activations = nn.predict(net[:layer], images)
    gradients = score_gradient(net[layer:], activations, classes)
    maps = np.stack([weighted_sum(a, g) for a, g in zip(activations, gradients)])
    return tn.resize2d(tn.tensor(maps[..., None]).to(tn.device()), images.shape[1:3]).numpy()[..., 0]


def weighted_sum(activations: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """relu(sum_c alpha_c A_c), (h, w), of activations A (h, w, C) and the gradient of the class score there.

    alpha_c, the mean of the gradient over the pixels, says how much the score rises with channel c.
    """
    alpha = gradient.mean(axis=(0, 1))
    return np.maximum((alpha * activations).sum(axis=2), 0)


Maps = dict[str, np.ndarray]  # method -> maps (N, H, W)
METHODS = {"gradient": gradient, "guided": guided_backpropagation, "grad_cam": grad_cam}
SHORT = {"gradient": "gradient", "guided": "guided", "grad_cam": "Grad-CAM"}


# ---------------------------------------------------------------------------------------- what is explained
@dataclass
class Question:
    """A trained net and images to explain.

    images: (N, H, W, C), as the net takes them. classes: whose scores are explained, (N,). inside: bool (N, H, W), the
    pixels that should matter. layer: Grad-CAM uses the output of entries 0 .. layer - 1. cuts: where the cascade of
    random weights begins, from the last layer to the first. random: the same net with random weights.
    """

    net: nn.Sequential
    images: np.ndarray
    classes: np.ndarray
    inside: np.ndarray
    layer: int
    cuts: tuple[int, ...]
    random: nn.Sequential

    def maps(self, net: nn.Sequential, count: int | None = None) -> Maps:
        """The maps of the first `count` images by each method, 32 images at a time."""
        images, classes = self.images[:count], self.classes[:count]
        parts = [(images[i : i + 32], classes[i : i + 32], self.layer) for i in range(0, len(images), 32)]
        return {name: np.concatenate([method(net, *part) for part in parts]) for name, method in METHODS.items()}

    def cascade(self) -> Iterator[nn.Sequential]:
        """The net with more and more random layers: first the last layer, finally all."""
        for cut in self.cuts:
            yield nn.Sequential(*self.net[:cut], *self.random[cut:])


def share_inside(maps: np.ndarray, inside: np.ndarray) -> float:
    """The mean share of a map's sum that lies inside. A map of zeros shows nothing; it is left out."""
    sums = maps.sum(axis=(1, 2))
    shares = (maps * inside).sum(axis=(1, 2))[sums > 0] / sums[sums > 0]
    return float(shares.mean()) if len(shares) else float("nan")


def similarity(maps: np.ndarray, others: np.ndarray) -> float:
    """The mean rank correlation of two maps of the same image: 1 for the same order of pixels, 0 for none in common.

    A map of zeros has no order of its pixels; it counts as 0.
    """
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(maps, others)]
    found = [stats.spearmanr(a, b).statistic if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0 for a, b in pairs]
    return float(np.mean(found))


# ---------------------------------------------------------------------------------------- nuclei
PATCH = 48  # pixels; the nuclei have a diameter of 14 (handcrafted.NUCLEUS)


def nuclei_net(width: int = 16) -> nn.Sequential:
    """x: (N, H, W, 1) -> logits (N, 2): no nucleus, nucleus. width: channels of the first layer.

    Grad-CAM explains the 12 x 12 activations of the last ReLU, entry 9.
    """

    def conv(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
        return nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()

    first = *conv(1, width), nn.MaxPool2d(2), *conv(width, 2 * width), nn.MaxPool2d(2)
    last = *conv(2 * width, 4 * width), *conv(4 * width, 4 * width), nn.GlobalAvgPool2d(), nn.Linear(4 * width, 2)
    return nn.Sequential(*first, *last)


def patches(
    samples: list[tn.data.Sample], count: int, own_scale: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` patches of each image: images (N, PATCH, PATCH, 1), nuclei bool (N, PATCH, PATCH).

    Half of them have no pixel of a nucleus; in the others, nuclei cover 3 to 30 %. own_scale: each patch is stretched
    from its percentile 1 to its percentile 99; otherwise the image is. Raises DataError if no image has both kinds.
    """
    images, nuclei = [], []
    for sample in [sample for sample in samples if sample.labels.any()]:
        gray, labels = handcrafted.at_nucleus_size(sample)
        mask = labels > 0
        middle = slice(PATCH // 2, -PATCH // 2 + 1)
        covered = ndimage.uniform_filter(mask.astype(np.float64), PATCH)[middle, middle]  # by upper left corner
        without, some = np.argwhere(covered < 1e-9), np.argwhere((covered > 0.03) & (covered < 0.3))
        number = min(count // 2, len(without), len(some))
        for corners in (without, some):
            for row, column in rng.permutation(corners)[:number]:
                place = slice(row, row + PATCH), slice(column, column + PATCH)
                images.append(handcrafted.own_gray_scale(gray[place]) if own_scale else np.clip(gray[place], 0, 1))
                nuclei.append(mask[place])
    if not images:
        raise DataError(f"none of {len(samples)} images has a patch with nuclei and one without: raise --images")
    return np.array(images, dtype=np.float32)[..., None], np.array(nuclei)


def nuclei_question(config: Config, samples: tuple[list, list], own_scale: bool = False) -> tuple[Question, float]:
    """(a net that finds nuclei, and test patches with nuclei to explain; its accuracy). own_scale: as for `patches`."""
    rng = np.random.default_rng(config.seed)
    (images, nuclei), (test_images, test_nuclei) = (patches(part, 40, own_scale, rng) for part in samples)
    labels, test_labels = (masks.any(axis=(1, 2)).astype(int) for masks in (nuclei, test_nuclei))
    tn.seed(config.seed)
    net, random = nuclei_net().to(tn.device()), nuclei_net().to(tn.device())
    views = [images, images[:, ::-1], images[:, :, ::-1], images.swapaxes(1, 2)]
    fine_tuning.fine_tune(net, views, labels, epochs=config.patch_epochs, lr=2e-3, seed=config.seed)
    right = nn.predict(net, test_images).argmax(axis=1) == test_labels

    shown = rng.permutation(np.flatnonzero(test_labels == 1))[: config.explained]
    classes, cuts = np.ones(len(shown), dtype=int), (11, 8, 6, 3, 0)
    question = Question(net, test_images[shown], classes, test_nuclei[shown], 10, cuts, random.eval())
    return question, float(right.mean())


def found_without_nuclei(question: Question) -> float:
    """The share of patches in which the net still finds a nucleus after all nuclei have been painted over."""
    images = question.images.copy()
    for image, inside in zip(images, question.inside):
        near = ndimage.binary_dilation(inside, iterations=3)  # with the blurred edges of the nuclei
        image[near] = np.median(image[~near])
    return float(np.mean(nn.predict(question.net, images).argmax(axis=1) == 1))


# ---------------------------------------------------------------------------------------- knees
def knees_question(config: Config, parts: dict) -> tuple[Question, float]:
    """(EfficientNet-Lite0, fine-tuned to grade knees, and test X-rays to explain; its kappa).

    parts: from `knees_or_synthetic`. The script explains the score of the radiologists' grade, for knees of grade 2 and
    more, which show signs of the disease.
    """
    rng = np.random.default_rng(config.seed)
    training, test = (parts[name][0] for name in ("train", "test"))
    training = training.subset(rng.permutation(len(training))[: config.knees])
    test = test.subset(rng.permutation(len(test))[: 3 * config.explained])
    tn.seed(config.seed)
    front, tail = fine_tuning.split(len(GRADES), config.trained_from)
    views = [fine_tuning.features(front, images) for images in (training.images, training.images[:, :, ::-1])]
    fine_tuning.fine_tune(tail, views, training.labels, epochs=config.epochs, seed=config.seed)
    grades = fine_tuning.outputs(tail, fine_tuning.features(front, test.images)).argmax(axis=1)
    kappa = metrics.cohen_kappa(metrics.confusion_matrix(test.labels, grades, len(GRADES)), "quadratic")

    ill = test.subset(np.flatnonzero(test.labels >= 2)[: config.explained])
    images, inside = efficientnet.prepare(ill.images), np.zeros(ill.images.shape[:3], dtype=bool)
    inside[:, joint_rows(training.images)] = True
    random = nn.Sequential(*(entry for part in fine_tuning.split(len(GRADES), pretrained=False) for entry in part))
    fine_tuning.set_averages(random, images[:64])  # the averages of a batch norm belong to the weights
    cuts = (20, 17, 16, 12, 9, 6, 4, 2, 1, 0)  # one cut for each stage of the net
    net = nn.Sequential(*front, *tail)
    question = Question(net, images, ill.labels, inside, 12, cuts, random.eval())
    return question, float(kappa)


def joint_rows(images: np.ndarray) -> slice:
    """The rows of the joint: a quarter of the height around the row where the mean image is darkest.

    Bone is bright, the gap between the bones is dark. The search is limited to the middle half of the rows.
    """
    height = images.shape[1]
    profile = images.mean(axis=(0, 2, 3))
    darkest = height // 4 + int(np.argmin(profile[height // 4 : -(height // 4)]))
    return slice(darkest - height // 8, darkest + height // 8)


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(ExampleOptions):
    out: str = option("out/saliency", "folder for the figures")
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    backend: str = option("cpu", "which implementation of the kernels runs", choices=BACKENDS)
    images: int = option(120, "microscope images to take patches from, and half as many to test", quick=6)
    patch_epochs: int = option(5, "passes over the patches")
    knees: int = option(3000, "knee X-rays to fine-tune with", quick=10)
    trained_from: int = option(6, "the first entry of EfficientNet-Lite0 that is fine-tuned")
    epochs: int = option(2, "passes over the knee X-rays")
    explained: int = option(200, "images to explain of each kind", quick=2)
    cascade: int = option(32, "images for the cascade of random weights", quick=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(2, "images", "epochs", "knees", "explained")  # batch norm needs two knees
        self.at_least(1, "patch_epochs", "cascade")


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Train the nets, explain their test images, randomize them; return shares inside and rank correlations."""
    rng = np.random.default_rng(config.seed)
    *samples, nuclei_source = handcrafted.nuclei_samples(config.data, config.images, rng)
    size = 32 if config.quick else 112  # pixels
    knees, knees_source = knees_or_synthetic(config.data, config.seed, (20, 1, 10), size, synthetic=config.quick)
    weights = fine_tuning.source()
    print_settings(config, nuclei_net(), nuclei_from=nuclei_source, knees_from=knees_source, weights_of_knees=weights)
    made = {
        "nuclei": nuclei_question(config, samples),
        "shortcut": nuclei_question(config, samples, own_scale=True),
        "knees": knees_question(config, knees),
    }
    questions = {name: question for name, (question, _) in made.items()}
    trained = {name: question.maps(question.net) for name, question in questions.items()}
    random = {name: question.maps(question.random) for name, question in questions.items()}
    curves = {name: sanity_check(questions[name], trained[name], config.cascade) for name in ("nuclei", "knees")}
    results = {f"{name}_{'kappa' if name == 'knees' else 'accuracy'}": score for name, (_, score) in made.items()}
    results |= {f"{name}_painted_over": found_without_nuclei(questions[name]) for name in ("nuclei", "shortcut")}
    results |= shares(questions, trained, random) | {
        f"{name}_{method}_{what}_random": float(curve[place])
        for name, of_methods in curves.items()
        for what, place in (("last", 0), ("all", -1))
        for method, curve in of_methods.items()
    }
    print_cascades(questions, curves)
    of_nuclei = {"": trained["nuclei"], ", shortcut": trained["shortcut"], ", random": random["nuclei"]}
    figures = {
        "nuclei.png": draw_maps(questions["nuclei"], of_nuclei),
        "knees.png": draw_maps(questions["knees"], {"": trained["knees"], ", random": random["knees"]}),
        "shares.png": draw_shares(results),
        "sanity.png": draw_sanity(curves, questions),
    }
    real = "synthetic" not in nuclei_source and "drawings" not in knees_source and weights == "ImageNet"
    return report(config, results, EXPECTED if real else {}, figures, NEXT)


def shares(questions: dict[str, Question], trained: dict[str, Maps], random: dict[str, Maps]) -> dict[str, float]:
    """The share of the area that is inside, and of the maps of the trained and the random nets."""
    found = {}
    for name, question in questions.items():
        found[f"{name}_area"] = float(question.inside.mean())
        for method in METHODS:
            found[f"{name}_{method}_inside"] = share_inside(trained[name][method], question.inside)
            found[f"{name}_{method}_inside_random"] = share_inside(random[name][method], question.inside)
    return found


def sanity_check(question: Question, maps: Maps, count: int) -> dict[str, np.ndarray]:
    """For each method the similarity of its maps to the trained net's, while more and more layers become random."""
    random = [question.maps(net, count) for net in question.cascade()]
    return {m: np.array([similarity(maps[m][:count], others[m]) for others in random]) for m in METHODS}


def print_cascades(questions: dict[str, Question], curves: dict[str, dict[str, np.ndarray]]) -> None:
    """The rank correlation after each step of the cascade."""
    for name, of_methods in curves.items():
        columns = {"random from entry": questions[name].cuts, **of_methods}
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        print(f"\n{name}: rank correlation with the trained net's map\n{metrics.format_table(rows)}")


# ---------------------------------------------------------------------------------------- figures
def draw_maps(question: Question, kinds: dict[str, Maps]) -> viz.Figure:
    """Four images, and maps of them by each method. kinds: what the title says of the maps -> the maps."""
    count, columns = min(4, len(question.images)), 1 + len(kinds) * len(METHODS)
    figure, axes = viz.subplots(count, columns, figsize=(1.5 * columns, 1.5 * count + 0.4), squeeze=False)
    for number, row in enumerate(axes):
        row[0].imshow(question.images[number, :, :, 0], cmap="gray")
        row[0].contour(question.inside[number], [0.5], colors=[viz.mpl(viz.SKY)], linewidths=1)
        shown = [maps[method][number] for maps in kinds.values() for method in METHODS]
        for panel, values in zip(row[1:], shown):
            panel.imshow(values, cmap="magma", vmin=0, vmax=np.percentile(values, 99.5) or 1)
    titles = [f"{SHORT[method]}{kind}" for kind in kinds for method in METHODS]
    for panel, title in zip(axes[0], ["image", *titles]):
        panel.set_title(title, fontsize=10)
    for panel in axes.flat:
        panel.axis("off")
    return figure


def draw_shares(results: dict[str, float]) -> viz.Figure:
    """The share of the maps inside, beside the share of the area."""
    figure, panels = viz.subplots(1, 3, figsize=(12, 4))
    names = {"nuclei": "nuclei", "shortcut": "nuclei, net with a shortcut", "knees": "joint of the knee"}
    for axes, (name, title) in zip(panels, names.items()):
        places = np.arange(len(METHODS))
        for offset, suffix, label, color in ((-0.2, "", "trained", viz.BLUE), (0.2, "_random", "random", viz.ORANGE)):
            heights = [results[f"{name}_{method}_inside{suffix}"] for method in METHODS]
            bars = axes.bar(places + offset, heights, 0.38, color=viz.mpl(color), label=f"{label} weights")
            axes.bar_label(bars, fmt="%.2f", fontsize=9)
        axes.axhline(results[f"{name}_area"], color="0.3", linestyle="--", label="share of the area")
        axes.set_xticks(places, SHORT.values())
        axes.set(title=title, ylim=(0, 0.7))
    panels[0].set_ylabel("share of the map inside")
    panels[0].legend(fontsize=9)
    return figure


def draw_sanity(curves: dict[str, dict[str, np.ndarray]], questions: dict[str, Question]) -> viz.Figure:
    """The similarity of the maps against the number of random layers."""
    figure, panels = viz.subplots(1, len(curves), figsize=(11, 4.2), squeeze=False, sharey=True)
    for axes, (name, of_methods) in zip(panels[0], curves.items()):
        for (method, curve), color in zip(of_methods.items(), (viz.BLUE, viz.VERMILLION, viz.GREEN)):
            axes.plot([1, *curve], "o-", color=viz.mpl(color), label=SHORT[method])
        labels = ["none", *map(str, questions[name].cuts[:-1]), "all"]
        axes.set_xticks(range(len(labels)), labels)
        axes.axhline(0, color="0.6", linewidth=1)
        axes.set(title=name, xlabel="random weights from this entry of the net to the last")
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel("rank correlation with the trained net's map")
    panels[0, 0].legend()
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Saliency maps: gradient, guided backpropagation, Grad-CAM, and their sanity check"
DATA = "nuclei of the Data Science Bowl 2018; knee X-rays (Chen et al.), EfficientNet-Lite0 with weights of ImageNet"
FILES = ("dsb2018/stage1_train.zip", "knee_oa/knee_oa_112.zip")
EXPECTED = {
    "nuclei_accuracy": (0.9, None),
    "shortcut_accuracy": (0.9, None),
    "knees_kappa": (0.6, None),
    "nuclei_gradient_inside": (0.2, None),
    "shortcut_gradient_inside": (None, 0.11),
    "nuclei_painted_over": (None, 0.3),
    "shortcut_painted_over": (0.7, None),
    "knees_guided_inside_random": (0.33, None),
    "knees_guided_last_random": (0.95, None),
    "knees_gradient_last_random": (None, 0.5),
}
PICTURE = "nuclei.png"
NEXT = "python examples/interpretability/adversarial.py"


if __name__ == "__main__":
    run(main)
