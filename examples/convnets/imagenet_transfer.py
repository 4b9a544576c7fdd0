"""A net that knows a thousand kinds of photographs learns to read X-rays: ImageNet's weights, used in five ways.

    python examples/convnets/imagenet_transfer.py                # each number of X-rays is drawn once
    python examples/convnets/imagenet_transfer.py --seeds 3      # small numbers three times, as in the table

Many studies of medical images begin with a net that was trained on ImageNet, 1.28 million photographs of animals and
things: of skin (Esteva 2017), eyes (Gulshan 2016), polyps and lungs (Tajbakhsh 2016). So does this script, with
EfficientNet-Lite0, whose lines are in `efficientnet_lite0.py` beside it.

**Photographs.** The net gives the five most probable of its thousand classes for pictures that come with scikit-image.
It must answer for an astronaut, an eye and a knee too, which have no class: the knee is an hourglass or a Band Aid.

**X-rays.** A new last layer with random weights gives the grade of osteoarthritis in a knee (five classes) or
pneumonia in a child's chest (two). The net has 16 blocks. How many of them may change?

- **fixed extractor**: only the new layer is trained, on 1,280 features of each X-ray;
- **last 5 blocks**, **last 11 blocks**: the layers before them are frozen, so their output is computed once;
- **all**: the weights of ImageNet are only the initial weights;
- **from scratch**: the same net with random initial weights.

All methods have the same number of steps, 30 to 360, at least two passes over the X-rays (the fixed extractor has five
times as many, because they cost next to nothing). Scores: quadratic kappa (1: the radiologists' grades, 0: chance) and
the area under the ROC curve (AUC) for "grade 2 or more" and for pneumonia. The test X-rays are used for the final
scores only; `--validate` is for choosing settings. With `--seeds 3`:

- **What does ImageNet gain?** Much, at every size. All layers tuned, beside the same net from scratch: knees, kappa .16
  and .01 from 50 X-rays, .43 and .08 from 500, .66 and .21 from all 5,778; chests, AUC .79 and .70 from 50, .94 and .85
  from 1,200. From scratch, these few steps are not enough: the net is far from the end of its training.
- **How deep to tune?** That depends on the task, as Tajbakhsh found. With 50 knees, depth makes no difference (.14 to
  .16). With 5,778 it does: the fixed extractor stops at .45, the last 5 blocks reach .64, the last 11 .68, all .66. For
  pneumonia, fixed features are enough: from 50 chests they are best (.88), from 1,200 as good as tuning all (.94).
- **How sure is that?** Three draws of 50 knees give a kappa of .06 to .24 by one and the same method (the bars in the
  figure). Large numbers were learned from once: another run, in which only rounding errors differed, gave .02 more for
  all layers of the knees, and .03 less for those of the chests. So such differences mean nothing there.

Sources: Esteva et al., Dermatologist-level classification of skin cancer with deep neural networks, Nature 542, 2017;
Gulshan et al., JAMA 316, 2016; Tajbakhsh et al., Convolutional neural networks for medical image analysis: full
training or fine tuning?, IEEE Transactions on Medical Imaging 35, 2016; names of classes: Deng et al., ImageNet, CVPR
2009; data: Chen et al. 2019 (knees, images of the Osteoarthritis Initiative), Kermany et al. 2018 (chests).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from tqdm import tqdm

import tinynet as tn
from tinynet import metrics, nn, viz
from tinynet.data import ImageSet, chest_xrays_or_synthetic, knees_or_synthetic
from tinynet.tools.bench.examples import load_example
from tinynet.tools.cli import NetOptions, command_line, option, print_settings, report, run

efficientnet = load_example("convnets/efficientnet_lite0.py")  # the net: read this script first,
fine_tuning = load_example("convnets/fine_tuning.py")  # then this one

# ---------------------------------------------------------------------------------------- the thousand classes
PHOTOGRAPHS = {  # photographs that come with scikit-image -> the right classes
    "chelsea": (281, 282, 285),
    "coffee": (504, 967, 968),
    "camera": (759, 872),
    "stereo_motorcycle": (665, 670),
    "rocket": (657, 744, 812),
    "astronaut": (),  # ImageNet has no class for an astronaut or an eye
    "retina": (),
}
NAMES = {  # of the classes that come up here
    **{78: "tick", 107: "jellyfish", 117: "nautilus", 163: "bloodhound", 281: "tabby cat", 282: "tiger cat"},
    **{285: "Egyptian cat", 287: "lynx", 419: "Band Aid", 422: "barbell", 447: "binoculars", 450: "bobsled"},
    **{504: "coffee mug", 517: "crane", 518: "crash helmet", 535: "disk brake", 540: "drilling platform"},
    **{560: "football helmet", 573: "go-kart", 585: "hair spray", 593: "harmonica", 604: "hourglass"},
    **{607: "jack-o'-lantern", 619: "lampshade", 650: "microphone", 657: "missile", 665: "moped"},
    **{670: "motor scooter", 691: "oxygen mask", 728: "plastic bag", 743: "prison", 744: "projectile"},
    **{759: "reflex camera", 809: "soup bowl", 812: "space shuttle", 830: "stretcher", 865: "toy shop"},
    **{872: "tripod", 925: "consomme", 967: "espresso", 968: "cup"},
}
# The five highest logits of PyTorch 2.13 for the cat, with the same weights.
CAT = {285: 9.011848, 282: 8.864537, 281: 8.150803, 287: 6.599784, 728: 3.709372}


def square(pixels: np.ndarray, size: int = 224) -> np.ndarray:
    """The middle square of an image, (H, W) or (H, W, 3), as the net expects it: uint8 (size, size, 3)."""
    image = Image.fromarray(pixels).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    middle = image.crop((left, top, left + side, top + side))
    return np.asarray(middle.resize((size, size), Image.Resampling.BICUBIC))


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image; of a stereo pair the left one. uint8 (H, W) or (H, W, 3)."""
    from skimage import data

    pixels = getattr(data, name)()
    return pixels[0] if isinstance(pixels, tuple) else pixels


def classify(images: np.ndarray) -> np.ndarray:
    """Logits (N, 1000) of the net as it was trained on ImageNet, for uint8 images (N, H, W, 3)."""
    model = efficientnet.efficientnet_lite0()
    efficientnet.load_imagenet(model)
    return nn.predict(model.to(tn.device()).eval(), efficientnet.prepare(images))


def judge(logits: np.ndarray) -> dict[str, float]:
    """How many of the photographs have a right class among their five best; the largest difference to PyTorch."""
    best = np.argsort(-logits, axis=1)[:, :5]
    known = sum(bool(set(right) & set(five)) for right, five in zip(PHOTOGRAPHS.values(), best.tolist()))
    cat = logits[list(PHOTOGRAPHS).index("chelsea")]
    return {
        "photographs_known": float(known),
        "difference_to_pytorch": float(max(abs(cat[label] - logit) for label, logit in CAT.items())),
    }


# ---------------------------------------------------------------------------------------- methods
Scores = dict[tuple[str, int], list[dict[str, float]]]  # (method, images) -> the scores of each run


@dataclass(frozen=True)
class Method:
    """trained_from: the first entry of the net that is trained; 19 is the dropout before the last layer.

    lr: highest learning rate. longer: so many times the steps of the task. every: 2 skips every other number of images.
    """

    trained_from: int
    color: tuple[int, int, int]
    pretrained: bool = True
    lr: float = 1e-3
    longer: int = 1
    every: int = 1


METHODS = {
    "fixed extractor": Method(19, viz.BLUE, lr=3e-3, longer=5),  # a step of a linear layer costs next to nothing
    "last 5 blocks": Method(12, viz.GREEN),
    "last 11 blocks": Method(6, viz.ORANGE, every=2),
    "all": Method(0, viz.VERMILLION, every=2),
    "from scratch": Method(0, (90, 90, 90), pretrained=False, every=2),
}


# ---------------------------------------------------------------------------------------- tasks
STEPS = {  # images to learn from -> training steps of 32 images
    "knees": {50: 30, 150: 50, 500: 80, 1500: 120, 5778: 360},
    "chest": {50: 30, 250: 50, 1200: 75},
}
FEW, MANY = 50, 500  # up to FEW images every method learns --seeds times, up to MANY a quick method


@dataclass
class Task:
    """X-rays to grade. measure: the score that is compared. steps: images to learn from -> training steps."""

    name: str
    measure: str
    training: ImageSet
    test: ImageSet
    steps: dict[int, int]
    front: nn.Sequential  # entries 0 to 18 of the net, with the weights of ImageNet
    computed: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)  # (part, cut) -> what `features` returns

    def features(self, part: str, cut: int) -> np.ndarray:
        """What entry `cut` of the net with the weights of ImageNet receives for "training" or "test": float16.

        It is computed once, from the features of an earlier cut if there are any.
        """
        if (part, cut) not in self.computed:
            earlier = [before for of, before in self.computed if of == part and before < cut]
            if earlier:
                x = fine_tuning.outputs(self.front[max(earlier) : cut], self.computed[part, max(earlier)])
                self.computed[part, cut] = x.astype(np.float16)
            else:
                self.computed[part, cut] = fine_tuning.features(self.front[:cut], getattr(self, part).images)
        return self.computed[part, cut]

    def score(self, logits: np.ndarray) -> dict[str, float]:
        """Of the test images: the AUC of the disease (grade 2 and more); for grades also quadratic kappa."""
        labels, classes = self.test.labels, len(self.test.classes)
        shares = tn.softmax(tn.tensor(logits)).numpy()
        if classes == 2:
            return {"AUC": metrics.auc(labels, shares[:, 1])}
        grades = np.rint(shares @ np.arange(classes)).astype(np.int64)  # the expected grade: a near miss is cheaper
        table = metrics.confusion_matrix(labels, grades, classes)
        return {
            "kappa": metrics.cohen_kappa(table, "quadratic"),
            "AUC": metrics.auc(labels >= 2, shares[:, 2:].sum(axis=1)),
        }


def stretched(xrays: ImageSet, rows: slice = slice(None)) -> ImageSet:
    """These rows of the X-rays, with the same contrast: gray percentile 2 becomes black, 98 white."""
    images = xrays.images[:, rows]
    low, high = np.percentile(images, (2, 98), axis=(1, 2), keepdims=True).astype(np.float32)
    images = np.clip(255 * (images - low) / np.maximum(high - low, 1), 0, 255).astype(np.uint8)
    return ImageSet(images, xrays.labels, xrays.classes)


def learn(task: Task, method: Method, images: int, seed: int) -> dict[str, float]:
    """The test scores of a net that learned the task by one method from `images` images.

    With the same seed, the first 50 images are among the first 500.
    """
    tn.seed(seed)
    chosen = np.random.default_rng(seed).permutation(len(task.training))[:images]
    _, tail = fine_tuning.split(len(task.training.classes), method.trained_from, pretrained=method.pretrained)
    steps_per_epoch = max(1, images // fine_tuning.BATCH)
    epochs = max(2, round(method.longer * task.steps[images] / steps_per_epoch))  # a schedule needs two steps or more
    x, labels = task.features("training", method.trained_from)[chosen], task.training.labels[chosen]
    fine_tuning.fine_tune(tail, x, labels, epochs=epochs, lr=method.lr, seed=seed)
    return task.score(fine_tuning.outputs(tail, task.features("test", method.trained_from)))


def compare(task: Task, config: Config) -> Scores:
    """(method, images) -> the scores of each run. Small numbers of images are learned from several times."""
    grid = []
    for name, method in sorted(METHODS.items(), key=lambda pair: pair[1].trained_from):  # so features build on others
        for images in list(task.steps)[:: method.every]:
            runs = config.seeds if images <= FEW or (method.every == 1 and images <= MANY) else 1
            grid += [(name, images, config.seed + run) for run in range(runs)]
    scores: Scores = {}
    progress = tqdm(grid, task.name, leave=False, disable=None)
    for name, images, seed in progress:
        progress.set_postfix_str(f"{name}, {images} images")
        scores.setdefault((name, images), []).append(learn(task, METHODS[name], images, seed))
    return scores


# ---------------------------------------------------------------------------------------- the run
@dataclass
class Config(NetOptions):
    out: str = option("out/imagenet_transfer", "folder for the figures")
    seeds: int = option(1, f"draws of at most {FEW} X-rays, of at most {MANY} for quick methods", quick=1)
    data: str | None = option(None, "data folder (default: TINYNET_DATA, then the cache)")
    knee_size: int = option(112, "height and width of a knee X-ray, of which the middle rows are used", quick=40)
    chest_size: int = option(64, "height and width of a chest X-ray", quick=32)
    photograph_size: int = option(224, "height and width of a photograph; the net was trained with 224")
    sizes: int = option(5, "use the first so many numbers of images", quick=1)
    steps: float = option(1.0, "times the usual number of training steps", quick=0.05)
    validate: bool = option(False, "test on validation X-rays: for choosing settings")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "sizes", "seeds")
        self.at_least(32, "knee_size", "chest_size", "photograph_size")
        if not self.steps > 0:
            raise ValueError(f"--steps is {self.steps}; more than 0 is needed")


def tasks_of(config: Config) -> tuple[dict[str, Task], dict[str, str], np.ndarray]:
    """(tasks, the sources of their X-rays, one knee: uint8 (H, W))."""
    knees, knee_source = knees_or_synthetic(config.data, config.seed, (50, 20, 50), config.knee_size, config.quick)
    chests, chest_source = chest_xrays_or_synthetic(config.data, config.seed, (50, 50), config.chest_size, config.quick)
    joint = slice(round(0.3 * config.knee_size), round(0.8 * config.knee_size))  # rows
    (chest, patients), (chest_test, _) = chests["train"], chests["test"]
    knee_test = knees["val" if config.validate else "test"][0]
    if config.validate:
        aside = np.isin(patients, np.unique(patients)[::4])
        chest, chest_test = chest.subset(~aside), chest.subset(aside)
    knee, knee_test = stretched(knees["train"][0], joint), stretched(knee_test, joint)
    front, _ = fine_tuning.split(2, trained_from=19)
    tasks = {
        "knees": Task("knees: grade", "kappa", knee, knee_test, {}, front),
        "chest": Task("chest: pneumonia", "AUC", stretched(chest), stretched(chest_test), {}, front),
    }
    for name, task in tasks.items():
        for images, steps in list(STEPS[name].items())[: config.sizes]:
            task.steps[min(images, len(task.training))] = max(2, round(config.steps * steps))
    return tasks, {"knees": knee_source, "chest": chest_source}, knees["val"][0].images[0, :, :, 0]


@command_line(Config)
def main(config: Config) -> dict[str, float]:
    """Classify photographs, then learn two tasks by every method; return scores, and what ImageNet gains."""
    tasks, sources, knee = tasks_of(config)
    print_settings(config, efficientnet.efficientnet_lite0(), weights=fine_tuning.source(), **sources)
    figures, results = {}, {}
    if efficientnet.weights_file() is not None:
        pictures = [*(photograph(name) for name in PHOTOGRAPHS), knee]
        images = np.stack([square(picture, config.photograph_size) for picture in pictures])
        logits = classify(images)
        results |= judge(logits)
        figures["photographs.png"] = draw_photographs(images, logits)
    scores = {name: compare(task, config) for name, task in tasks.items()}
    for name, task in tasks.items():
        results |= {f"{name}_{key}": value for key, value in summary(task, scores[name]).items()}
        print_tables(task, scores[name])
    figures["transfer.png"] = draw_transfer(tasks, scores)
    real = not (config.validate or any(source.startswith("drawings") for source in sources.values()))
    return report(config, results, EXPECTED if real and "photographs.png" in figures else {}, figures, NEXT)


def means(cells: Scores, measure: str) -> dict[tuple[str, int], float]:
    """The mean score of the runs of each (method, images)."""
    return {cell: float(np.mean([run[measure] for run in runs])) for cell, runs in cells.items()}


def summary(task: Task, cells: Scores) -> dict[str, float]:
    """Each method's scores from most images, and what the weights of ImageNet gain if all entries are trained."""
    results = {}
    for measure in next(iter(cells.values()))[0]:
        mean = means(cells, measure)
        for name, images in mean:
            if images == max(task.steps):
                results[f"{measure}_{name.replace(' ', '_')}".lower()] = mean[name, images]
            if measure == task.measure and name == "all":
                results[f"gain_of_{images}"] = mean[name, images] - mean["from scratch", images]
    return results


def print_tables(task: Task, cells: Scores) -> None:
    """The mean scores of each method, by the number of images."""
    for measure in next(iter(cells.values()))[0]:
        mean = means(cells, measure)
        rows = [
            {measure: name, **{f"{images:,}": f"{mean.get((name, images), np.nan):.3f}" for images in task.steps}}
            for name in METHODS
        ]
        print(f"\n{task.name}, by the number of images\n{metrics.format_table(rows).replace('nan', '   ')}")


# ---------------------------------------------------------------------------------------- figures
def draw_photographs(images: np.ndarray, logits: np.ndarray) -> viz.Figure:
    """Photographs and an X-ray, with the five most probable classes; a right one is green."""
    shares = tn.softmax(tn.tensor(logits)).numpy()
    right = [*PHOTOGRAPHS.values(), ()]
    columns = (len(images) + 1) // 2
    figure, panels = viz.subplots(4, columns, figsize=(2.9 * columns, 9), height_ratios=(2.4, 1, 2.4, 1))
    for number, (image, share) in enumerate(zip(images, shares)):
        row, column = divmod(number, columns)
        panels[2 * row, column].imshow(image)
        panels[2 * row, column].axis("off")
        bars = panels[2 * row + 1, column]
        best = np.argsort(-share)[:5]
        colors = [viz.mpl(viz.GREEN) if label in right[number] else "0.8" for label in best.tolist()]
        bars.barh(range(5), share[best], color=colors)
        for place, label in enumerate(best.tolist()):
            name = NAMES.get(label, f"class {label}")
            percent = "< 1 %" if share[label] < 0.01 else f"{100 * share[label]:.0f} %"
            bars.text(0.99, place, f"{name}  {percent}", ha="right", va="center", fontsize=11)
        bars.set(xlim=(0, 1), ylim=(4.6, -0.6), xticks=[], yticks=[])
    return figure


def draw_transfer(tasks: dict[str, Task], scores: dict[str, Scores]) -> viz.Figure:
    """Score against the number of images: a line for each method, the range of the runs as error bars."""
    drawn = [(name, measure) for name, cells in scores.items() for measure in next(iter(cells.values()))[0]]
    figure, panels = viz.subplots(1, len(drawn), figsize=(4.6 * len(drawn), 4.8))
    for axes, (name, measure) in zip(panels, drawn):
        for number, (method, settings) in enumerate(METHODS.items()):
            sizes = [images for images in tasks[name].steps if (method, images) in scores[name]]
            runs = [[run[measure] for run in scores[name][method, images]] for images in sizes]
            middle, low, high = (np.array([f(r) for r in runs]) for f in (np.mean, min, max))
            look = {"fmt": "o--" if method == "from scratch" else "o-", "color": viz.mpl(settings.color)}
            x = np.array(sizes) * 1.03 ** (number - 2)  # side by side, so that error bars can be told apart
            axes.errorbar(x, middle, (middle - low, high - middle), markersize=4, capsize=2, label=method, **look)
        ticks = list(tasks[name].steps)
        axes.set(xscale="log", xlabel="X-rays to learn from", ylabel=measure)
        axes.set_xticks(ticks, [f"{images:,}" for images in ticks])
        axes.minorticks_off()
        axes.set_title(tasks[name].name)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=9)
    return figure


# ---------------------------------------------------------------------------------------- catalog entry
TOPIC = "Transfer learning: from ImageNet to X-rays"
DATA = "photographs of scikit-image; knee X-rays (Chen et al.), chest X-rays (Kermany et al.); weights of ImageNet"
FILES = ("knee_oa/knee_oa_112.zip", "chest_xray/chest_xray.zip")
EXPECTED = {
    "photographs_known": (5, 5),
    "difference_to_pytorch": (None, 1e-4),
    "knees_kappa_last_11_blocks": (0.64, 0.74),
    "knees_auc_last_11_blocks": (0.83, 0.89),
    "knees_kappa_fixed_extractor": (0.38, 0.48),
    "knees_gain_of_50": (0, 0.3),
    "knees_gain_of_500": (0.2, 0.5),
    "knees_gain_of_5778": (0.35, 0.6),
    "chest_auc_fixed_extractor": (0.92, 0.96),
    "chest_gain_of_50": (-0.05, 0.25),
    "chest_gain_of_1200": (0.02, 0.16),
}
PICTURE = "transfer.png"
ARGUMENTS = ("--seeds", "3")
NEXT = "python examples/convnets/deep_features_svm.py"


if __name__ == "__main__":
    run(main)
