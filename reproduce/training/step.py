"""How a run's steps are taken: the parts that its method combines, built from its spec."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reproduce.compute.compilation import Graphs, compiled
from reproduce.compute.device import forward_in, products_in
from reproduce.config.schema import Precision, Train, TrainingAttack
from reproduce.experiments.spec import TrainingSpec
from reproduce.objectives import build_objective
from reproduce.objectives.base import Objective, Terms
from reproduce.registry import METHODS
from reproduce.training.lambda_rules import LambdaRule, WidthAdjusted, constant
from reproduce.training.weight_perturbation import perturb_weights, take_back


@dataclass(frozen=True)
class Recipe:
    """The parts of a step.

    Attributes
    ----------
    objective : Objective
        Gives the two terms and the attack on the images.
    attack : TrainingAttack
        That attack's settings.
    rule : LambdaRule
        Gives the lambda of each step.
    gamma : float
        Size of the perturbation of the weights as a fraction of their norm; 0 for none.
    precision : {"float32", "float64", "tf32", "bf16"}
        Of forward and backward passes.
    """

    objective: Objective
    attack: TrainingAttack
    rule: LambdaRule = constant
    gamma: float = 0.0
    precision: Precision = "float32"


def build_recipe(spec: TrainingSpec, zeta: float | None) -> Recipe:
    """Return the parts of a run's steps.

    Parameters
    ----------
    spec : TrainingSpec
        What to compute.
    zeta : float or None
        The ratio that WAR steers to; None if lambda is constant.

    Raises
    ------
    ValueError
        If lambda is WAR's and there is no zeta: it would stay where it starts.
    """
    rule: LambdaRule = constant
    if spec.war is not None:
        if zeta is None:
            raise ValueError(f"{spec.cell} needs a zeta")
        rule = WidthAdjusted(zeta, spec.war.alpha)
    return Recipe(
        build_objective(METHODS[spec.parsed.method].objective, spec.train),
        spec.train.attack,
        rule,
        0.0 if spec.awp is None else spec.awp.gamma,
        spec.train.precision,
    )


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.SGD:
    """Return SGD over a network's parameters; BatchNorm's may be spared the weight decay.

    Not PyTorch's fused SGD: it takes weight and gradient by their places in memory and so
    updates wrongly, without a word, where their layouts differ.  A GPU's default updates
    all tensors together as well.
    """
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if not train.decay_norm:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        spared = [parameter for norm in norms for parameter in norm.parameters()]
        known = {id(parameter) for parameter in spared}
        decayed = [parameter for parameter in model.parameters() if id(parameter) not in known]
        groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD(
        groups,
        lr=train.learning_rate,
        momentum=train.momentum,
        nesterov=train.nesterov,
        weight_decay=train.weight_decay,
    )


class StepResult(NamedTuple):
    """What a step saw before it moved the weights; scalars on the device.

    Attributes
    ----------
    natural, robust : Tensor
        Natural risk and robust regularisation, batch means.
    lipschitz : Tensor
        Batch mean of the largest l1 norm of the input gradient over the attack steps.
    lam : Tensor
        The lambda of the step, float64.
    """

    natural: Tensor
    robust: Tensor
    lipschitz: Tensor
    lam: Tensor


class TermsOf(nn.Module):
    """A network and the objective's terms on a batch as one module.

    However often the terms call the network, several processes then average its
    gradients once.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    objective : Objective
        Gives the terms.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; the network is in train mode."""
        return self._objective.terms(self.model, images, adversarial, labels)


class FullLogits(nn.Module):
    """A network whose logits are float32 at least.

    So every loss is taken in float32: CUDA's autocast sees to that in most of them, the
    processor's in none.

    Parameters
    ----------
    model : torch.nn.Module
        The network.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch, shape (B, classes)."""
        logits: Tensor = self.model(images)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class BySize(nn.Module):
    """A module compiled for batches of certain sizes, and as it is for all others.

    So the smaller batch that ends an epoch compiles nothing, and which form serves a batch
    depends on nothing that came before it.

    Parameters
    ----------
    compiled, plain : torch.nn.Module
        Both forms; they share their weights.
    sizes : collection of int
        Numbers of images that the first one serves.
    """

    def __init__(self, compiled: nn.Module, plain: nn.Module, sizes: Collection[int]) -> None:
        super().__init__()
        self.compiled, self.plain, self.sizes = compiled, plain, frozenset(sizes)

    def forward(self, images: Tensor, *others: Tensor) -> Tensor | Terms:
        """Return what the form for the size of the batch makes of it."""
        form = self.compiled if len(images) in self.sizes else self.plain
        found: Tensor | Terms = form(images, *others)
        return found


class Calls(NamedTuple):
    """What a step calls in place of its network.

    Attributes
    ----------
    network : torch.nn.Module
        What the attack calls.
    terms : torch.nn.Module
        `TermsOf` the network, or what averages its gradients over processes.
    """

    network: nn.Module
    terms: nn.Module


def plain_calls(model: nn.Module, objective: Objective) -> Calls:
    """Call the network as it is."""
    network = FullLogits(model)
    return Calls(network, TermsOf(network, objective))


def compiled_calls(model: nn.Module, objective: Objective, sizes: Collection[int]) -> Calls:
    """Call a network compiled for the attack, and both terms compiled as one graph.

    Batches of other than the given sizes go through the network as it is.

    The attack and the terms have graphs of their own: the attack's network is in eval mode
    and its parameters are frozen, so its graph folds every BatchNorm into one
    multiplication and has no weight gradients.
    """
    plain = plain_calls(model, objective)
    network = FullLogits(compiled(model, dynamic=False))
    terms = compiled(plain.terms, dynamic=False)
    return Calls(BySize(network, plain.network, sizes), BySize(terms, plain.terms, sizes))


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    lam: Tensor,
    stream: torch.Generator,
    calls: Calls | None = None,
    weight: float = 1.0,
    graphs: Graphs | None = None,
) -> StepResult:
    """Attack a batch and take one optimiser step on natural + lambda * robust.

    Parameters
    ----------
    model : torch.nn.Module
        Left in train mode.
    optimizer : torch.optim.Optimizer
        Over the network's parameters.
    recipe : Recipe
        The method's parts.
    images, labels : Tensor
        Augmented images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
    lam : Tensor
        Lambda of the step before, or the first one; float64 scalar on the device.
    stream : torch.Generator
        Draws the attack's start; on the device of the images.
    calls : Calls, optional
        What to call for the network; the network itself unless given.
    weight : float
        Of this batch among those of the other processes: 1 if all have one size.
    graphs : Graphs, optional
        Records the attack and both terms with their gradients; the start and the optimiser's
        update, which change from step to step, stay outside.  Unless given, nothing is recorded.
    """
    calls = calls or plain_calls(model, recipe.objective)
    start = recipe.objective.start(images, recipe.attack, stream)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def compute(*inputs: Tensor) -> tuple[Tensor, ...]:
        return _attack_and_terms(model, parameters, recipe, calls, weight, *inputs)

    inputs = (images, labels, start, lam)
    if graphs is None:
        seen, *others = compute(*inputs)
    else:
        # AWP perturbs the weights from some epoch on
        seen, *others = graphs(("step", recipe.gamma > 0), compute, *inputs)
    for parameter, gradient in zip(parameters, others[: len(parameters)], strict=True):
        parameter.grad = gradient
    optimizer.step()
    moves = others[len(parameters) :]
    if moves:
        take_back(model, moves)
    # a copy: the next step overwrites what is recorded
    return StepResult(*seen.clone().unbind())


def _attack_and_terms(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    recipe: Recipe,
    calls: Calls,
    weight: float,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    lam: Tensor,
) -> tuple[Tensor, ...]:
    """Return what a step saw, float64, the gradient of every parameter, and AWP's moves if any.

    AWP's moves are on the weights then.
    """
    low = forward_in(recipe.precision, images.device)

    def terms() -> Terms:
        with low:
            natural, robust = calls.terms(images, found.images, labels)
        return Terms(weight * natural, weight * robust)

    def loss() -> Tensor:
        natural, robust = terms()
        return natural + lam.to(natural.dtype) * robust

    with products_in(recipe.precision):
        with low:
            found = recipe.objective.perturb(calls.network, images, labels, recipe.attack, start)
        model.train()
        moves = perturb_weights(model, loss, recipe.gamma) if recipe.gamma else []
        natural, robust = step = terms()
        lam = recipe.rule(lam, step)
        for parameter in parameters:
            parameter.grad = None
        # through `backward`, in which several processes average their gradients
        (natural + lam.to(natural.dtype) * robust).backward()
    norm = weight * found.gradient_norm.mean()
    seen = torch.stack([value.detach().double() for value in (natural, robust, norm, lam)])
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if len(gradients) < len(parameters):
        raise ValueError("a parameter of the network has no gradient")
    return (seen, *gradients, *moves)
