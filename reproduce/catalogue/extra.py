"""Extra images with pseudo-labels: where the published files come from."""

from dataclasses import dataclass

from reproduce.errors import HarnessError


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
