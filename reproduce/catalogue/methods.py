"""The training methods: a row each, as combinations of parts that exist once."""

from dataclasses import dataclass
from typing import Literal

from reproduce.errors import HarnessError


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
