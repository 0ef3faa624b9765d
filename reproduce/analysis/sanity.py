"""What several attacks on one network tell together about whether to believe them."""

import numpy as np

from reproduce.analysis.results import Results
from reproduce.config import Config
from reproduce.records import check_black_box, worst_case


def black_box_warnings(config: Config, results: Results) -> list[str]:
    """Name the networks on which Square, without gradients, beats every white-box attack.

    Robust accuracies are means over the attacks' seeds, on the images all of them saw.
    """
    found = []
    for cell in dict.fromkeys(item.cell for item in results.held):
        items = results.of_cell(cell)
        common, _ = worst_case(list(items.values()))
        accuracy: dict[str, list[float]] = {}
        for item, (index, robust) in items.items():
            share = 100 * float(robust[np.isin(index, common)].mean())
            accuracy.setdefault(item.attack, []).append(share)
        means = {name: float(np.mean(values)) for name, values in accuracy.items()}
        black = {n: m for n, m in means.items() if config.eval.attacks[n].kind == "square"}
        white = {n: m for n, m in means.items() if n not in black}
        if black and white:
            lines = check_black_box(min(white.values()), min(black.values()))
            found += [f"{cell}: {line}" for line in lines]
    return found
