"""Each kind of attack under `eval.attacks`, and PGD as validation runs it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from reproduce.config.fields import Count, Epsilon, Positive, Section

AttackPackage = Literal["pyautoattack", "autoattack"]


class _Attack(Section):
    """What all attacks of `eval.attacks` have."""

    images: Count | None = None
    """Attack only this many test images, every class in its proportion; null for all. Such
    records go by another name, and tables mark them."""
    epsilon: Epsilon | None = None
    """Radius of the ball for this attack, pixels in [0, 1]; null for eval.epsilon."""

    # AutoAttack's package draws one stream a shard, for correctly classified images alone
    of_package: ClassVar[bool] = True

    def label(self, name: str) -> str:
        """Return what records of this attack are called: partial ones never by the plain name."""
        return name if self.images is None else f"{name}-n{self.images}"

    @property
    def idle(self) -> set[str]:
        """The settings that others make idle."""
        return set()


class PGD(Section):
    """Projected gradient descent from a uniform start in the ball, as validation uses it."""

    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    """What is maximised; margin, max z_j - z_y over the other classes j, is the paper's C&W."""
    cw_mask: Literal["proper", "zero"] = "proper"
    """How margin leaves out the true class: proper, or zero (the authors' code: its logit is
    multiplied by 0, so the best other logit is never below 0)."""
    steps: Count
    """Number of steps."""
    step_size: Positive = 0.007
    """Step, pixels in [0, 1]."""
    clamp_start: bool = False
    """Whether the start is clipped to [0, 1], as in the official Fast-AT code; the authors' PGD-20
    clips only what its steps lead to."""

    @property
    def idle(self) -> set[str]:
        """The settings that others make idle."""
        return set() if self.loss == "margin" else {"cw_mask"}


class PGDAttack(PGD, _Attack):
    """Projected gradient descent from uniform starts in the ball."""

    of_package: ClassVar[bool] = False
    parts: ClassVar[tuple[str, ...]] = ("pgd",)
    kind: Literal["pgd"]
    """Which attack this is: pgd, fab, square or autoattack."""
    restarts: Count = 1
    """Random starts; an image that one of them breaks is left out of the next."""

    @property
    def title(self) -> str:
        """What heads the attack's column in a table."""
        return "C&W" if self.loss == "margin" else f"PGD-{self.steps}"


class FABAttack(_Attack):
    """Fast adaptive boundary attack, of AutoAttack's package."""

    title: ClassVar[str] = "FAB"
    kind: Literal["fab"]
    """Which attack this is."""
    steps: Count = 100
    """Iterations of a restart."""
    restarts: Count = 5
    """Restarts, of each target if there are targets."""
    targets: Count | None = None
    """Attack towards each of this many most likely other classes; null for untargeted FAB."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The attacks that run one after the other."""
        return ("fab",) if self.targets is None else ("fab-t",)


class SquareAttack(_Attack):
    """Square, random search without gradients, of AutoAttack's package."""

    title: ClassVar[str] = "Square"
    parts: ClassVar[tuple[str, ...]] = ("square",)
    kind: Literal["square"]
    """Which attack this is."""
    queries: Count = 5000
    """Queries a restart may use for an image."""
    restarts: Count = 1
    """Random starts; an image that one of them breaks is left out of the next."""


class AutoAttack(_Attack):
    """AutoAttack: APGD on the cross entropy, targeted APGD, targeted FAB, Square."""

    title: ClassVar[str] = "AutoAttack"
    kind: Literal["autoattack"]
    """Which attack this is."""
    version: Literal["standard", "preview"] = "standard"
    """standard, or preview: the two APGD attacks only, an upper bound of robust accuracy."""
    steps: Count = 100
    """Iterations of APGD and FAB."""
    targets: Count = 9
    """Target classes of targeted APGD and FAB."""
    queries: Count = 5000
    """Queries of Square."""

    @property
    def idle(self) -> set[str]:
        """The settings that others make idle."""
        return set() if self.version == "standard" else {"queries"}

    @property
    def parts(self) -> tuple[str, ...]:
        """The attacks that run one after the other."""
        names = ("apgd-ce", "apgd-t", "fab-t", "square")
        return names if self.version == "standard" else names[:2]

    def label(self, name: str) -> str:
        """Return what records of this attack are called: partial ones never by the plain name."""
        return super().label(name if self.version == "standard" else f"{name}-preview")


# small letters and digits, not digits alone
AttackName = Annotated[str, Field(pattern="^[a-z0-9]*[a-z][a-z0-9]*$")]
Attack = Annotated[PGDAttack | FABAttack | SquareAttack | AutoAttack, Field(discriminator="kind")]
