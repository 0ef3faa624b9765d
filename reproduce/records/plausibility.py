"""Signs, in numbers alone, that an evaluation says less than it seems to; in words.

Source: the checklist of Carlini et al. 2019, "On Evaluating Adversarial Robustness".
"""

# images below which accuracy says nothing about chance
_ENOUGH = 30
# points by which a black-box attack may beat the white-box ones
SQUARE_MARGIN = 0.2


def check_black_box(white: float, black: float) -> list[str]:
    """Compare the robust accuracy (%) under white-box attacks with that after a black-box one."""
    if black < white - SQUARE_MARGIN:
        return [
            f"the black-box attack Square lowers robust accuracy from {white:.2f} to {black:.2f} "
            "%, below all white-box attacks: their gradients may mislead"
        ]
    return []


def check_accuracy(correct: int, images: int, classes: int) -> list[str]:
    """Ask whether a network that is right on `correct` of `images` sees what it expects."""
    if images < _ENOUGH:
        return []
    chance = 1 / classes
    # three standard deviations of guessing above chance
    if correct / images <= chance + 3 * (chance * (1 - chance) / images) ** 0.5:
        return [
            f"natural accuracy is {100 * correct / images:.2f} % on {images} images, no better "
            "than chance: the network may expect other pixels than [0, 1], or other labels"
        ]
    return []
