"""One training step: attack a batch, take both terms there, update the weights."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reproduce.compute.compilation import Graphs, compiled
from reproduce.compute.device import autocast, conv_precision
from reproduce.config.schema import Precision, Train, TrainingAttack
from reproduce.experiments.spec import TrainingSpec
from reproduce.objectives import build_objective
from reproduce.objectives.base import Objective, Terms
from reproduce.registry import METHODS
from reproduce.training.lambda_rules import LambdaRule, WidthAdjusted, constant
from reproduce.training.weight_perturbation import perturb_weights, restore_weights


@dataclass(frozen=True)
class Algorithm:
    """What a method combines into a step."""

    objective: Objective
    """Gives the two terms and the attack on the images."""
    attack: TrainingAttack
    lambda_rule: LambdaRule = constant
    """Gives the lambda of each step."""
    awp_gamma: float = 0.0
    """Size of AWP's perturbation as a fraction of the weights' norm; 0 for none."""
    precision: Precision = "float32"
    """Of forward and backward passes."""


def build_algorithm(spec: TrainingSpec, zeta: float | None) -> Algorithm:
    """Return how a run takes its steps; `zeta` is the ratio that WAR steers to."""
    rule: LambdaRule = constant
    if spec.war is not None:
        if zeta is None:
            raise ValueError(f"{spec.cell} needs a zeta")
        rule = WidthAdjusted(zeta, spec.war.alpha)
    return Algorithm(
        build_objective(METHODS[spec.parsed.method].objective, spec.train),
        spec.train.attack,
        rule,
        0.0 if spec.awp is None else spec.awp.gamma,
        spec.train.precision,
    )


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.SGD:
    """Return SGD over a network's parameters; BatchNorm's may be spared the weight decay."""
    groups: list[dict[str, Any]] = [{"params": list(model.parameters())}]
    if not train.decay_norm:
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        spared = [parameter for norm in norms for parameter in norm.parameters()]
        known = {id(parameter) for parameter in spared}
        decayed = [parameter for parameter in model.parameters() if id(parameter) not in known]
        groups = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    # not the fused one: where weight and gradient differ in memory layout it updates wrongly
    return torch.optim.SGD(
        groups,
        lr=train.learning_rate,
        momentum=train.momentum,
        nesterov=train.nesterov,
        weight_decay=train.weight_decay,
    )


class StepResult(NamedTuple):
    """What a step computed before it moved the weights; float64 scalars on the device."""

    natural: Tensor
    robust: Tensor
    """Natural risk and robust regularisation, batch means."""
    lipschitz: Tensor
    """Batch mean of the largest l1 norm of the input gradient over the attack steps."""
    lam: Tensor
    """The lambda of the step."""


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    algorithm: Algorithm,
    images: Tensor,
    labels: Tensor,
    lam: Tensor,
    stream: torch.Generator,
    modules: "StepModules | None" = None,
    weight: float = 1.0,
    graphs: Graphs | None = None,
) -> StepResult:
    """Attack a batch and take one optimiser step on natural + lambda * robust.

    `lam` is the lambda of the step before, a float64 scalar on the device; `stream` draws the
    attack's start; `weight` is that of this batch among those of the other processes.  `graphs`
    records all but the start and the optimiser's update.  The network is left in train mode.
    """
    objective, precision, gamma = algorithm.objective, algorithm.precision, algorithm.awp_gamma
    modules = modules or step_modules(model, objective)
    start = objective.start(images, algorithm.attack, stream)
    parameters = [p for p in model.parameters() if p.requires_grad]
    low = autocast(precision, images.device)

    def compute(images: Tensor, labels: Tensor, start: Tensor, lam: Tensor) -> tuple[Tensor, ...]:
        """Return a `StepResult` as one tensor, all gradients, and AWP's moves, not taken off."""

        def terms() -> Terms:
            with low:
                natural, robust = modules.terms(images, attacked.images, labels)
            return Terms(weight * natural, weight * robust)

        def loss() -> Tensor:
            natural, robust = terms()
            return natural + lam.to(natural.dtype) * robust

        with conv_precision(precision):
            with low:
                attacked = objective.perturb(
                    modules.network, images, labels, algorithm.attack, start
                )
            model.train()
            moves = perturb_weights(model, loss, gamma) if gamma else []
            natural, robust = both = terms()
            chosen = algorithm.lambda_rule(lam, both)
            for parameter in parameters:
                parameter.grad = None
            # through `backward`, in which several processes average their gradients
            (natural + chosen.to(natural.dtype) * robust).backward()
        norm = weight * attacked.gradient_norm.mean()
        seen = torch.stack([value.detach().double() for value in (natural, robust, norm, chosen)])
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if len(gradients) < len(parameters):
            raise ValueError("a parameter of the network has no gradient")
        return (seen, *gradients, *moves)

    inputs = (images, labels, start, lam)
    if graphs is None:
        seen, *others = compute(*inputs)
    else:
        # AWP begins in some epoch: steps before it are another computation
        seen, *others = graphs(("step", gamma > 0), compute, *inputs)
    gradients, moves = others[: len(parameters)], others[len(parameters) :]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    if moves:
        restore_weights(model, moves)
    # a copy: the next step overwrites what is recorded
    return StepResult(*seen.clone().unbind())


class StepModules(NamedTuple):
    """What a step calls in place of its network: one for the attack, one that gives both terms."""

    network: nn.Module
    terms: nn.Module


def step_modules(
    model: nn.Module, objective: Objective, compiled_sizes: Collection[int] = ()
) -> StepModules:
    """Call the network as it is, or compiled for batches of some sizes.

    Compiled, the attack has a graph of its own: its network is in eval mode with frozen parameters,
    so that every BatchNorm folds into one multiplication and no weight has a gradient.
    """
    network = _FullLogits(model)
    terms = _TermsOf(network, objective)
    if not compiled_sizes:
        return StepModules(network, terms)
    fast = _FullLogits(compiled(model, dynamic=False))
    return StepModules(
        CompiledForSizes(fast, network, compiled_sizes),
        CompiledForSizes(compiled(terms, dynamic=False), terms, compiled_sizes),
    )


class _FullLogits(nn.Module):
    """A network whose logits are float32 at least, so that every loss is.

    CUDA's autocast sees to that in most losses, the processor's in none.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch, shape (B, classes)."""
        logits: Tensor = self.model(images)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class _TermsOf(nn.Module):
    """A network and the objective's terms as one module, whose gradients are averaged once."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms."""
        return self._objective.terms(self.model, images, adversarial, labels)


class CompiledForSizes(nn.Module):
    """A module compiled for some sizes of batches: the smaller one that ends an epoch is none."""

    def __init__(self, compiled: nn.Module, plain: nn.Module, sizes: Collection[int]) -> None:
        super().__init__()
        self.compiled, self.plain, self.sizes = compiled, plain, frozenset(sizes)

    def forward(self, images: Tensor, *others: Tensor) -> Tensor | Terms:
        """Return what the form for the size of the batch gives."""
        form = self.compiled if len(images) in self.sizes else self.plain
        output: Tensor | Terms = form(images, *others)
        return output
