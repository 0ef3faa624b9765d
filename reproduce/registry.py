"""What cells are made of: architectures, data sets, training methods, extra images.

A data set or a method is a row here; docs/extend.md says what else a method needs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from reproduce.core.errors import HarnessError

T = TypeVar("T")


def _find(what: str, rows: Mapping[str, T], name: str) -> T:
    if name not in rows:
        raise HarnessError(f"unknown {what} {name!r}; known: {', '.join(rows)}")
    return rows[name]


# --- architectures


@dataclass(frozen=True)
class Architecture:
    """A network: WideResNet (Zagoruyko and Komodakis 2016) or DenseNet-BC (Huang et al. 2017).

    `depth` is its number of layers, 6n + 4, or 50 for the network of ImageNet; `width` is the widen
    factor of a WideResNet, or the growth rate of a DenseNet.
    """

    family: Literal["wrn", "densenet-bc"]
    depth: int
    width: float

    def __str__(self) -> str:
        return f"{self.model}-{self.width:g}"

    @property
    def model(self) -> str:
        """The name without the width, as the paper's tables head their rows."""
        return f"{self.family}-{self.depth}"

    @property
    def title(self) -> str:
        """The name without the width, written out."""
        return f"{'WideResNet' if self.family == 'wrn' else 'DenseNet-BC'}-{self.depth}"

    @property
    def bottleneck(self) -> bool:
        """Whether this is ResNet-50 with wider bottlenecks: 1 is ResNet-50, 2 Wide-ResNet-50-2."""
        return self.family == "wrn" and self.depth == 50  # not 6n + 4, so no other has it

    @property
    def blocks(self) -> int:
        """Residual blocks a group, or bottlenecks a dense block."""
        return (self.depth - 4) // 6


def parse_architecture(name: str) -> Architecture:
    """Read an architecture's name, such as wrn-34-0.5, in its one spelling."""
    match = re.fullmatch(r"(wrn|densenet-bc)-(\d{1,4})-(\d{1,4}(?:\.\d{1,4})?)", name)
    if match is None:
        raise HarnessError(
            f"unknown architecture {name!r}; expected wrn-DEPTH-WIDTH or densenet-bc-DEPTH-GROWTH, "
            "for example wrn-34-10 or densenet-bc-40-12"
        )
    family: Literal["wrn", "densenet-bc"] = "wrn" if match[1] == "wrn" else "densenet-bc"
    found = Architecture(family, int(match[2]), float(match[3]))
    problem = None
    if not found.bottleneck and (found.depth < 10 or (found.depth - 4) % 6):
        problem = "its depth is not 6n + 4 with n >= 1 (10, 16, 22, 28, 34, 40 ...)"
    elif family == "wrn" and found.width < 1 / 16:
        problem = "its first group has no channels; the smallest width is 0.0625"
    elif family == "densenet-bc" and (found.width % 1 or found.width < 1):
        problem = "the growth rate must be a whole number, 1 or more"
    elif str(found) != name:  # a second spelling would be trained twice
        problem = f"it is spelt {str(found)!r}"
    if problem is not None:
        raise HarnessError(f"architecture {name!r}: {problem}")
    return found


def width_label(name: str) -> str:
    """Write the width of a network as the paper does: w=5, or k=12 for a growth rate."""
    shape = parse_architecture(name)
    return f"{'w' if shape.family == 'wrn' else 'k'}={shape.width:g}"


# --- data sets


@dataclass(frozen=True)
class DatasetFacts:
    """What is fixed about a data set before a file is read."""

    name: str  # in cell ids
    title: str  # in tables
    classes: int  # labels run from 0 to classes - 1
    size: int  # height and width in pixels; of a folder's images those of the centre crop
    channels: int  # 1 grey, 3 colour
    train: int  # images in the official split
    test: int
    padding: int  # zeros around an image before its random crop in training
    flip: bool  # whether training may flip left to right
    epsilon: float  # the usual radius of the l_inf ball, pixels in [0, 1]
    # images of one size that fit in memory, or files of any size in a folder a class
    storage: Literal["arrays", "folder"] = "arrays"
    top5: bool = False  # whether records keep if the true class is among the five most likely
    class_names: tuple[str, ...] = ()  # in the order of the labels; empty if they go by number

    def class_name(self, label: int) -> str:
        """Return what a class is called; its number where it has no name."""
        return self.class_names[label] if self.class_names else str(label)

    def check_architecture(self, architecture: Architecture) -> None:
        """Refuse a network that is not made for images of this size, naming one that is."""
        if architecture.bottleneck != (self.storage == "folder"):
            fits = "wrn-50-WIDTH" if self.storage == "folder" else "wrn-DEPTH-WIDTH, DEPTH 6n + 4"
            raise HarnessError(
                f"architecture {str(architecture)!r} is not for {self.title}, which takes {fits}"
            )


# of the official files' batches.meta and meta (Krizhevsky 2009)
_CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_DIGITS = DatasetFacts(
    "digits",
    "Digits",
    classes=10,
    size=8,
    channels=1,
    train=1442,
    test=355,
    padding=1,  # in proportion to CIFAR's
    flip=False,  # a mirrored digit is not a digit
    epsilon=0.2,
    class_names=tuple("0123456789"),
)
_CIFAR10 = DatasetFacts(
    "cifar10",
    "CIFAR-10",
    classes=10,
    size=32,
    channels=3,
    train=50_000,
    test=10_000,
    padding=4,
    flip=True,
    epsilon=8 / 255,
    class_names=tuple(_CIFAR10_CLASSES.split()),
)
_CIFAR100 = replace(
    _CIFAR10,
    name="cifar100",
    title="CIFAR-100",
    classes=100,
    class_names=tuple(name.replace("_", " ") for name in _CIFAR100_CLASSES.split()),
)
_IMAGENET = DatasetFacts(
    "imagenet",
    "ImageNet",
    classes=1000,
    size=288,  # from the middle, and nothing resized, as Wong et al. 2020 do
    channels=3,
    train=1_281_167,
    test=50_000,
    padding=0,
    flip=True,
    epsilon=4 / 255,
    storage="folder",
    top5=True,
)
DATASETS = {facts.name: facts for facts in (_DIGITS, _CIFAR10, _CIFAR100, _IMAGENET)}


def dataset_facts(name: str) -> DatasetFacts:
    """Return the facts of a data set by name."""
    return _find("data set", DATASETS, name)


# --- extra images


@dataclass(frozen=True)
class ExtraFacts:
    """What is fixed about a file of extra images."""

    name: str
    title: str
    dataset: str  # whose training images they extend
    images: int
    file: str  # the published one
    address: str  # where the file is
    home: str  # the page that links to it

    @property
    def setting(self) -> str:
        """The setting of the data section that names the file."""
        return self.name.replace("-", "_")


_RST = ExtraFacts(
    "cifar10-extra",
    "the 500,000 images from 80 Million Tiny Images with pseudo-labels of Carmon et al. 2019 (RST)",
    dataset="cifar10",
    images=500_000,
    file="ti_500K_pseudo_labeled.pickle",
    address="https://drive.google.com/open?id=1LTw3Sb5QoiCCN-6Y5PEKkq9C9W60w-Hi",
    home="https://github.com/yaircarmon/semisup-adv",
)
EXTRA = {facts.name: facts for facts in (_RST,)}


def extra_facts(name: str) -> ExtraFacts:
    """Return the facts of extra images by their name."""
    return _find("extra images", EXTRA, name)


def extra_of(dataset: str) -> ExtraFacts:
    """Return the extra images that extend a data set."""
    return extra_facts(f"{dataset}-extra")


# --- training methods


@dataclass(frozen=True)
class Method:
    """One training method: an objective, and what is combined with it."""

    name: str  # in cell ids
    title: str  # in tables
    source: str  # where it was published
    objective: str  # the module of reproduce.objectives with its two terms and its attack
    target_passes: int = 1  # forwards an image that the attack takes once; every step takes two
    terms_passes: int = 6  # those of the terms and their gradient; a backward counts two
    # whether lambda stays as the cell names it, or starts there and is adapted
    lambda_rule: Literal["constant", "war"] = "constant"
    # whether a step is taken at adversarially perturbed weights
    weight_perturbation: Literal["none", "awp"] = "none"
    # the data set, or with pseudo-labelled extra images in every batch
    batches: Literal["labelled", "mixed"] = "labelled"
    # whether the epoch with the highest robust accuracy is reported, or natural accuracy
    validation: Literal["attack", "natural"] = "attack"
    only_lambda: float | None = None  # for a method without a second term to weigh
    unused: tuple[str, ...] = ()  # settings of `train` that it never reads


_BATCH_NORM = ("bn_forwards", "bn_first")
_METHODS = (
    Method("trades", "TRADES", "Zhang et al. 2019", "trades"),
    Method(  # what makes it another is in the presets: train_for.trades-step
        "trades-step",
        "TRADES, step schedule",
        "Zhang et al. 2019, with its own learning rates: Figure 3 of the paper",
        "trades",
    ),
    Method(
        "at",
        "Adversarial training",
        "Madry et al. 2018, generalised in appendix D of the paper",
        "adversarial_training",
        target_passes=0,
        unused=_BATCH_NORM,
    ),
    Method("war", "WAR", "Algorithm 1 of the paper, on TRADES", "trades", lambda_rule="war"),
    Method(
        "awp-trades", "AWP-TRADES", "Wu, Xia and Wang 2020", "trades", weight_perturbation="awp"
    ),
    Method("mart", "MART", "Wang et al. 2020", "mart", target_passes=0, unused=_BATCH_NORM),
    Method(
        "rst",
        "RST",
        "Carmon et al. 2019: TRADES with pseudo-labelled extra images",
        "trades",
        batches="mixed",
    ),
    Method(
        "rst-war",
        "WAR with extra images",
        "Table 4 of the paper: WAR on RST",
        "trades",
        lambda_rule="war",
        batches="mixed",
    ),
    Method(
        "fast-at",
        "Fast-AT",
        "Wong, Rice and Kolter 2020",
        "fast",
        target_passes=0,
        terms_passes=3,  # only under attack: one forward pass and a full backward
        validation="natural",
        only_lambda=1.0,
        unused=(*_BATCH_NORM, "attack.start_sigma"),
    ),
)
METHODS = {method.name: method for method in _METHODS}


def find_method(name: str) -> Method:
    """Return a method by name."""
    return _find("method", METHODS, name)


# --- published checkpoints

ZOO_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def check_zoo_id(name: str) -> None:
    """Refuse what is no id of a model, and so might lie anywhere."""
    if re.fullmatch(ZOO_ID, name) is None:
        raise HarnessError(f"{name!r:.200} is no model id, such as Wu2020Do")
