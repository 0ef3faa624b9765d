"""One step of adversarial training."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.graphs import Graphs
from reproduce.models import compiled
from reproduce.objectives import Objective, Terms
from reproduce.precision import forward_in, products_in
from reproduce.training.recipe import Recipe
from reproduce.training.weight_perturbation import perturb_weights, take_back


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
