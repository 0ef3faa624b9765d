"""One step of adversarial training."""

from collections.abc import Collection
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reproduce.config import CompileMode
from reproduce.models import compiled
from reproduce.objectives import Objective, Terms
from reproduce.training.precision import forward_in, products_in
from reproduce.training.recipe import Recipe
from reproduce.training.weight_perturbation import perturbed_weights


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
    """A network whose logits are float32 at least and stay what they are.

    So every loss is taken in float32: CUDA's autocast sees to that in most of them, the
    processor's in none.  They are a copy, since a recorded CUDA graph returns the same
    memory each time.

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
        return logits.to(torch.promote_types(logits.dtype, torch.float32), copy=True)


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
    compiled : bool
        Whether they are compiled.
    """

    network: nn.Module
    terms: nn.Module
    compiled: bool = False


def plain_calls(model: nn.Module, objective: Objective) -> Calls:
    """Call the network as it is."""
    network = FullLogits(model)
    return Calls(network, TermsOf(network, objective))


def compiled_calls(
    model: nn.Module, objective: Objective, mode: CompileMode, sizes: Collection[int]
) -> Calls:
    """Call a network compiled for the attack, and both terms compiled as one graph.

    Batches of other than the given sizes go through the network as it is.

    The attack and the terms have graphs of their own: the attack's network is in eval mode
    and its parameters are frozen, so its graph folds every BatchNorm into one
    multiplication and has no weight gradients.
    """
    plain = plain_calls(model, objective)
    network = FullLogits(compiled(model, mode, dynamic=False))
    terms = compiled(plain.terms, mode, dynamic=False)
    return Calls(
        BySize(network, plain.network, sizes), BySize(terms, plain.terms, sizes), compiled=True
    )


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
    """
    network, terms_of, is_compiled = calls or plain_calls(model, recipe.objective)
    low = forward_in(recipe.precision, images.device)
    if is_compiled:
        # what the step before left in recorded graphs may be overwritten
        torch.compiler.cudagraph_mark_step_begin()

    def terms() -> Terms:
        with low:
            natural, robust = terms_of(images, found.images, labels)
        # new tensors, not the memory of a recorded graph: the trace keeps them
        return Terms(weight * natural, weight * robust)

    def loss() -> Tensor:
        natural, robust = terms()
        return natural + lam.to(natural.dtype) * robust

    with products_in(recipe.precision):
        with low:
            found = recipe.objective.perturb(network, images, labels, recipe.attack, stream)
        model.train()
        with perturbed_weights(model, loss, recipe.gamma) if recipe.gamma else nullcontext():
            natural, robust = step = terms()
            lam = recipe.rule(lam, step)
            optimizer.zero_grad(set_to_none=True)
            (natural + lam.to(natural.dtype) * robust).backward()
            optimizer.step()
    norm = weight * found.gradient_norm.mean()
    return StepResult(natural.detach(), robust.detach(), norm, lam)
