"""How tables mark attacks that ran in part, or saw a part of the images."""

from collections.abc import Sequence

from reproduce.analysis.results import Results
from reproduce.analysis.statistics import subset_interval
from reproduce.catalogue import dataset_facts
from reproduce.config import AutoAttack, Config, PGDAttack


def attack_title(config: Config, name: str) -> str:
    """Head a column with an attack; partial evaluations are marked."""
    attack = config.eval.attacks[name]
    if isinstance(attack, PGDAttack):
        title = "C&W" if attack.loss == "margin" else f"PGD-{attack.steps}"
    else:
        title = {"fab": "FAB", "square": "Square", "autoattack": "AutoAttack"}[attack.kind]
    return title + mark(config, [name])


def mark(config: Config, names: Sequence[str]) -> str:
    """Return what marks numbers that some attack of several makes partial."""
    attacks = [config.eval.attacks[name] for name in names]
    preview = any(isinstance(a, AutoAttack) and a.version == "preview" for a in attacks)
    images = min((a.images for a in attacks if a.images is not None), default=None)
    marks = ["preview"] * preview + ([] if images is None else [f"n={images}"])
    return f" ({', '.join(marks)})" if marks else ""


def partial_notes(config: Config, attacks: Sequence[str], results: Results) -> list[str]:
    """Say which attacks ran in part, or saw a part of the images, and what that leaves."""
    notes = []
    for name in attacks:
        attack = config.eval.attacks[name]
        if isinstance(attack, AutoAttack) and attack.version == "preview":
            notes.append(f"{name} is a preview: the two APGD attacks, an upper bound.")
    seen: dict[tuple[int, int], tuple[dict[str, None], dict[str, None]]] = {}
    for dataset, attack_name, images, total in results.attacked():
        names, titles = seen.setdefault((images, total), ({}, {}))
        names[attack_name] = titles[dataset_facts(dataset).title] = None
    for (images, total), (names, titles) in seen.items():
        interval = subset_interval(50.0, images, total)
        if interval is not None:
            notes.append(
                f"{', '.join(names)} on {', '.join(titles)}: {images} of {total} test images, "
                "every class in its proportion; the 95 % interval of a number for all is up to "
                f"± {(interval.high - interval.low) / 2:.1f} points (each in the csv)."
            )
    return notes
