"""What the classes of the data sets are called, in the order of their labels."""

import re
from dataclasses import dataclass
from typing import Literal

from reproduce.core.errors import HarnessError, brief

DIGITS = tuple("0123456789")
# the ten and the hundred of the official files' batches.meta and meta (Krizhevsky 2009)
CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch
    crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse
    mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy
    porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
    snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television
    tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(name.replace("_", " ") for name in _CIFAR100.split())


# not of the form 6n + 4, so no network of the other kind has it
_IMAGENET_DEPTH = 50
_NAME = re.compile(r"(?P<family>wrn|densenet-bc)-(?P<depth>\d{1,4})-(?P<width>\d{1,4}(\.\d{1,4})?)")


@dataclass(frozen=True)
class Architecture:
    """A network's family, depth and width.

    Attributes
    ----------
    family : {"wrn", "densenet-bc"}
        WideResNet (Zagoruyko and Komodakis 2016) or DenseNet-BC (Huang et al. 2017).
    depth : int
        Number of layers: 6n + 4, or 50 for the network of ImageNet.
    width : float
        Widen factor of a WideResNet, growth rate of a DenseNet.
    """

    family: Literal["wrn", "densenet-bc"]
    depth: int
    width: float

    def __str__(self) -> str:
        return f"{self.family}-{self.depth}-{self.width:g}"

    @property
    def model(self) -> str:
        """The name without the width, as the paper's tables head their rows."""
        return f"{self.family}-{self.depth}"

    @property
    def title(self) -> str:
        """The name without the width, written out."""
        kind = {"wrn": "WideResNet", "densenet-bc": "DenseNet-BC"}[self.family]
        return f"{kind}-{self.depth}"

    @property
    def bottleneck(self) -> bool:
        """Whether this is ResNet-50 with wider bottlenecks, the network of ImageNet.

        Width 1 is ResNet-50 and width 2 Wide-ResNet-50-2, as the paper counts.
        """
        return self.family == "wrn" and self.depth == _IMAGENET_DEPTH

    @property
    def blocks(self) -> int:
        """Residual blocks a group, or bottlenecks a dense block."""
        return (self.depth - 4) // 6


def parse_architecture(name: str) -> Architecture:
    """Read an architecture's name.

    Raises
    ------
    HarnessError
        If the name has another form, the depth is none there is, or the width leaves
        a layer without channels.

    Examples
    --------
    >>> parse_architecture("wrn-34-0.5").width
    0.5
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise HarnessError(
            f"unknown architecture {name!r}; expected wrn-DEPTH-WIDTH or densenet-bc-DEPTH-GROWTH, "
            "for example wrn-34-10 or densenet-bc-40-12"
        )
    depth, width = int(match["depth"]), float(match["width"])
    imagenet = match["family"] == "wrn" and depth == _IMAGENET_DEPTH
    if not imagenet and (depth < 10 or (depth - 4) % 6):
        raise HarnessError(
            f"architecture {name!r}: depth {depth} is not 6n + 4 with n >= 1 "
            "(10, 16, 22, 28, 34, 40 ...)"
        )
    if match["family"] == "wrn":
        if int(16 * width) < 1:
            raise HarnessError(
                f"architecture {name!r}: width {width:g} gives int(16 * {width:g}) = 0 channels; "
                "the smallest width is 0.0625"
            )
        return _canonical(Architecture("wrn", depth, width), name)
    if width != int(width) or width < 1:
        raise HarnessError(
            f"architecture {name!r}: the growth rate must be a whole number, 1 or more"
        )
    return _canonical(Architecture("densenet-bc", depth, width), name)


def width_label(name: str) -> str:
    """Write the width of a network as the paper does: w=5, or k=12 for a growth rate.

    Raises
    ------
    HarnessError
        As `parse_architecture`.
    """
    shape = parse_architecture(name)
    return f"{'w' if shape.family == 'wrn' else 'k'}={shape.width:g}"


def _canonical(architecture: Architecture, name: str) -> Architecture:
    """Refuse a second spelling of a network: it would be trained twice."""
    if str(architecture) != name:
        raise HarnessError(f"architecture {name!r} is spelt {str(architecture)!r}")
    return architecture


@dataclass(frozen=True)
class DatasetFacts:
    """What is fixed about a data set before a file is read.

    Attributes
    ----------
    name, title : str
        The name in cell ids and the one in tables.
    classes : int
        Number of classes; labels run from 0 to classes - 1.
    size : int
        Height and width of an image in pixels; of a folder's images that of the centre
        crop they are evaluated on.
    channels : int
        1 for grey images, 3 for colour.
    train, test : int
        Number of images in the official splits.
    padding : int
        Zero padding of the random crop in training, in pixels; a folder's images are
        cut out of what there is instead.
    flip : bool
        Whether training flips images left to right.
    epsilon : float
        Radius of the l_inf ball that is usual for it, pixels in [0, 1].
    storage : {"arrays", "folder"}
        Images of one size that fit in memory, or files of any size in a folder a class,
        decoded when they are needed.  How many and of how many classes a folder really
        holds stands in its index.
    top5 : bool
        Whether records keep if the true class is among the five most likely ones.
    class_names : tuple of str
        What the classes are called, in the order of their labels; empty where they go by
        number.
    """

    name: str
    title: str
    classes: int
    size: int
    channels: int
    train: int
    test: int
    padding: int
    flip: bool
    epsilon: float
    storage: Literal["arrays", "folder"] = "arrays"
    top5: bool = False
    class_names: tuple[str, ...] = ()

    def class_name(self, label: int) -> str:
        """Say what a class is called; its number where it has no name."""
        return self.class_names[label] if self.class_names else str(label)

    def check_architecture(self, architecture: Architecture) -> None:
        """Refuse a network that is not made for images of this size.

        Raises
        ------
        HarnessError
            Naming a network that is.
        """
        if architecture.bottleneck and self.storage == "arrays":
            raise HarnessError(
                f"architecture {str(architecture)!r} is the one for ImageNet; {self.title} takes "
                "wrn-DEPTH-WIDTH with a depth of 6n + 4, such as wrn-34-10"
            )
        if not architecture.bottleneck and self.storage == "folder":
            raise HarnessError(
                f"architecture {str(architecture)!r} is for images of 32 pixels; {self.title} "
                "takes wrn-50-WIDTH, such as wrn-50-2"
            )


DATASETS = {
    facts.name: facts
    for facts in (
        # padding in proportion to CIFAR's; a mirrored digit is not a digit
        DatasetFacts(
            "digits",
            "Digits",
            10,
            8,
            1,
            1442,
            355,
            padding=1,
            flip=False,
            epsilon=0.2,
            class_names=DIGITS,
        ),
        DatasetFacts(
            "cifar10",
            "CIFAR-10",
            10,
            32,
            3,
            50_000,
            10_000,
            padding=4,
            flip=True,
            epsilon=8 / 255,
            class_names=CIFAR10,
        ),
        DatasetFacts(
            "cifar100",
            "CIFAR-100",
            100,
            32,
            3,
            50_000,
            10_000,
            padding=4,
            flip=True,
            epsilon=8 / 255,
            class_names=CIFAR100,
        ),
        # evaluated as Wong et al. 2020 do: 288 pixels cut from the middle, nothing resized
        DatasetFacts(
            "imagenet",
            "ImageNet",
            1000,
            288,
            3,
            1_281_167,
            50_000,
            padding=0,
            flip=True,
            epsilon=4 / 255,
            storage="folder",
            top5=True,
        ),
    )
}


def dataset_facts(name: str) -> DatasetFacts:
    """Return the facts of a data set by name.

    Raises
    ------
    HarnessError
        If there is none of that name.
    """
    if name not in DATASETS:
        raise HarnessError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


@dataclass(frozen=True)
class ExtraFacts:
    """What is fixed about a file of extra images.

    Attributes
    ----------
    name, title : str
        The name in commands and files, and what they are in words.
    dataset : str
        The data set whose training images they extend.
    images : int
        Number of images.
    file : str
        Name of the published file.
    address, home : str
        Where the file is, and the page that links to it.
    """

    name: str
    title: str
    dataset: str
    images: int
    file: str
    address: str
    home: str

    @property
    def setting(self) -> str:
        """The setting of the data section that names the file."""
        return self.name.replace("-", "_")


EXTRA = {
    facts.name: facts
    for facts in (
        ExtraFacts(
            "cifar10-extra",
            "the 500,000 images from 80 Million Tiny Images with pseudo-labels of Carmon et al. "
            "2019 (RST)",
            "cifar10",
            500_000,
            "ti_500K_pseudo_labeled.pickle",
            "https://drive.google.com/open?id=1LTw3Sb5QoiCCN-6Y5PEKkq9C9W60w-Hi",
            "https://github.com/yaircarmon/semisup-adv",
        ),
    )
}


def extra_facts(name: str) -> ExtraFacts:
    """Return the facts of extra images by their name.

    Raises
    ------
    HarnessError
        If there are none of that name.
    """
    if name not in EXTRA:
        raise HarnessError(f"unknown extra images {name!r}; known: {', '.join(EXTRA)}")
    return EXTRA[name]


def extra_of(dataset: str) -> ExtraFacts:
    """Return the extra images that extend a data set.

    Raises
    ------
    HarnessError
        If none are known for it.
    """
    for facts in EXTRA.values():
        if facts.dataset == dataset:
            return facts
    known = ", ".join(facts.dataset for facts in EXTRA.values())
    raise HarnessError(f"no extra images are known for {dataset!r}; there are some for {known}")


@dataclass(frozen=True)
class Method:
    """One training method: an objective, and what is combined with it.

    Attributes
    ----------
    name, title : str
        The name in cell ids and the one in tables.
    source : str
        Where the method was published.
    objective : str
        The module of ``reproduce.objectives`` that gives its two terms and its attack.
    target_passes : int
        Forward passes an image that the attack takes once, beside two for every step.
    terms_passes : int
        Cost of the two terms and their gradient per image in forward passes: a full
        backward is two.
    lambda_rule : {"constant", "war"}
        Whether lambda stays as the cell names it, or starts there and follows the
        ratio of the two terms (width adjusted regularisation).
    weight_perturbation : {"none", "awp"}
        Whether a step is taken at adversarially perturbed weights.
    batches : {"labelled", "mixed"}
        What it trains on: the data set, or the data set and pseudo-labelled extra images,
        both in every batch.
    validation : {"attack", "natural"}
        Whether epochs are measured under attack, and the one with the highest robust
        accuracy is reported, or on clean images only, and it is the one with the
        highest natural accuracy.
    only_lambda : float, optional
        The one lambda there is, for a method without a second term to weigh.
    unused : tuple of str
        Settings of the configuration's ``train`` section that this method never reads,
        such as ``attack.start_sigma``: changing one changes no result of it.
    """

    name: str
    title: str
    source: str
    objective: str
    target_passes: int
    terms_passes: int
    lambda_rule: Literal["constant", "war"] = "constant"
    weight_perturbation: Literal["none", "awp"] = "none"
    batches: Literal["labelled", "mixed"] = "labelled"
    validation: Literal["attack", "natural"] = "attack"
    only_lambda: float | None = None
    unused: tuple[str, ...] = ()


METHODS = {
    method.name: method
    for method in (
        Method("trades", "TRADES", "Zhang et al. 2019", "trades", target_passes=1, terms_passes=6),
        # what makes it another is in the presets: train_for.trades-step
        Method(
            "trades-step",
            "TRADES, step schedule",
            "Zhang et al. 2019, with its own learning rates: Figure 3 of the paper",
            "trades",
            target_passes=1,
            terms_passes=6,
        ),
        Method(
            "at",
            "Adversarial training",
            "Madry et al. 2018, generalised in appendix D of the paper",
            "adversarial_training",
            target_passes=0,
            terms_passes=6,
            unused=("bn_forwards", "bn_first"),
        ),
        Method(
            "war",
            "WAR",
            "Algorithm 1 of the paper, on TRADES",
            "trades",
            target_passes=1,
            terms_passes=6,
            lambda_rule="war",
        ),
        Method(
            "awp-trades",
            "AWP-TRADES",
            "Wu, Xia and Wang 2020",
            "trades",
            target_passes=1,
            terms_passes=6,
            weight_perturbation="awp",
        ),
        Method(
            "mart",
            "MART",
            "Wang et al. 2020",
            "mart",
            target_passes=0,
            terms_passes=6,
            unused=("bn_forwards", "bn_first"),
        ),
        Method(
            "rst",
            "RST",
            "Carmon et al. 2019: TRADES with pseudo-labelled extra images",
            "trades",
            target_passes=1,
            terms_passes=6,
            batches="mixed",
        ),
        Method(
            "rst-war",
            "WAR with extra images",
            "Table 4 of the paper: WAR on RST",
            "trades",
            target_passes=1,
            terms_passes=6,
            lambda_rule="war",
            batches="mixed",
        ),
        Method(
            "fast-at",
            "Fast-AT",
            "Wong, Rice and Kolter 2020",
            "fast",
            target_passes=0,
            # only under attack: one forward pass and a full backward
            terms_passes=3,
            validation="natural",
            only_lambda=1.0,
            unused=("bn_forwards", "bn_first", "attack.start_sigma"),
        ),
    )
}


def check_lambda(method: str, lam: float) -> None:
    """Refuse a lambda for a method that has but one.

    Raises
    ------
    HarnessError
        Naming the one there is.
    """
    only = METHODS[method].only_lambda
    if only is not None and lam != only:
        raise HarnessError(
            f"{method} has no second term for a lambda of {lam:g} to weigh; it is {only:g}"
        )


def find_method(name: str) -> Method:
    """Return a method by name.

    Raises
    ------
    HarnessError
        If there is none of that name.
    """
    if name not in METHODS:
        raise HarnessError(f"unknown method {name!r}; known: {', '.join(METHODS)}")
    return METHODS[name]


ZOO_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def check_zoo_id(name: str) -> str:
    """Refuse what is no id of a model, and so might lie anywhere.

    Raises
    ------
    HarnessError
        Saying what an id is.
    """
    if re.fullmatch(ZOO_ID, name) is None:
        raise HarnessError(
            f"{brief(name)} is no model id: expected letters, digits, '_', '-' and '.', "
            "such as Wu2020Do"
        )
    return name
