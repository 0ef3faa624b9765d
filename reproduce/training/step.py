"""One training step: attack a batch, take both terms there, update the weights.

What a step is made of lives beside it: the terms and the attack on the images in
`reproduce.objectives`, the choice of lambda in `lambda_rules`, AWP in `weight_perturbation`.
"""

from collections.abc import Collection, Sequence
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
    """What a method combines into a step.

    Attributes
    ----------
    objective : Objective
        Gives the two terms and the attack on the images.
    attack : TrainingAttack
        That attack's settings.
    lambda_rule : LambdaRule
        Gives the lambda of each step.
    awp_gamma : float
        Size of AWP's perturbation as a fraction of the weights' norm; 0 for none.
    precision : {"float32", "float64", "tf32", "bf16"}
        Of forward and backward passes.
    """

    objective: Objective
    attack: TrainingAttack
    lambda_rule: LambdaRule = constant
    awp_gamma: float = 0.0
    precision: Precision = "float32"


def build_algorithm(spec: TrainingSpec, zeta: float | None) -> Algorithm:
    """Return how a run takes its steps; `zeta` is the ratio that WAR steers to.

    Raises
    ------
    ValueError
        If lambda is WAR's and there is no zeta.
    """
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
    """Return SGD over a network's parameters; BatchNorm's may be spared the weight decay.

    Not PyTorch's fused SGD: where weight and gradient have different memory layouts it
    updates wrongly, without an error.
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
    """What a step computed before it moved the weights; float64 scalars on the device.

    Attributes
    ----------
    natural, robust : Tensor
        Natural risk and robust regularisation, batch means.
    lipschitz : Tensor
        Batch mean of the largest l1 norm of the input gradient over the attack steps.
    lam : Tensor
        The lambda of the step.
    """

    natural: Tensor
    robust: Tensor
    lipschitz: Tensor
    lam: Tensor


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

    Parameters
    ----------
    model : torch.nn.Module
        Left in train mode.
    optimizer : torch.optim.Optimizer
        Over the network's parameters.
    algorithm : Algorithm
        What the method combines.
    images, labels : Tensor
        Augmented images in [0, 1], shape (B, channels, H, W), and classes, shape (B,).
    lam : Tensor
        Lambda of the step before, or the first one; float64 scalar on the device.
    stream : torch.Generator
        Draws the attack's start; on the device of the images.
    modules : StepModules, optional
        What to call for the network; the network itself unless given.
    weight : float
        Of this batch among those of the other processes: 1 if all have one size.
    graphs : Graphs, optional
        Records the attack and both terms with their gradients.  The start and the optimiser's
        update change from step to step and are never recorded.
    """
    modules = modules or plain_modules(model, algorithm.objective)
    start = algorithm.objective.start(images, algorithm.attack, stream)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def compute(*inputs: Tensor) -> tuple[Tensor, ...]:
        return _attack_and_gradients(model, parameters, algorithm, modules, weight, *inputs)

    inputs = (images, labels, start, lam)
    if graphs is None:
        seen, *others = compute(*inputs)
    else:
        # AWP begins in some epoch: steps before it are another computation
        seen, *others = graphs(("step", algorithm.awp_gamma > 0), compute, *inputs)
    gradients, moves = others[: len(parameters)], others[len(parameters) :]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    if moves:
        restore_weights(model, moves)
    # a copy: the next step overwrites what is recorded
    return StepResult(*seen.clone().unbind())


def _attack_and_gradients(
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    algorithm: Algorithm,
    modules: "StepModules",
    weight: float,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    lam: Tensor,
) -> tuple[Tensor, ...]:
    """Return the values of a `StepResult`, every parameter's gradient, and AWP's moves if any.

    AWP's moves are still on the weights then.
    """
    low = autocast(algorithm.precision, images.device)

    def terms() -> Terms:
        with low:
            natural, robust = modules.terms(images, attacked.images, labels)
        return Terms(weight * natural, weight * robust)

    def loss() -> Tensor:
        natural, robust = terms()
        return natural + lam.to(natural.dtype) * robust

    with conv_precision(algorithm.precision):
        with low:
            attacked = algorithm.objective.perturb(
                modules.network, images, labels, algorithm.attack, start
            )
        model.train()
        gamma = algorithm.awp_gamma
        moves = perturb_weights(model, loss, gamma) if gamma else []
        natural, robust = both = terms()
        lam = algorithm.lambda_rule(lam, both)
        for parameter in parameters:
            parameter.grad = None
        # through `backward`, in which several processes average their gradients
        (natural + lam.to(natural.dtype) * robust).backward()
    norm = weight * attacked.gradient_norm.mean()
    seen = torch.stack([value.detach().double() for value in (natural, robust, norm, lam)])
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if len(gradients) < len(parameters):
        raise ValueError("a parameter of the network has no gradient")
    return (seen, *gradients, *moves)


class StepModules(NamedTuple):
    """What a step calls in place of its network.

    Attributes
    ----------
    network : torch.nn.Module
        What the attack calls.
    terms : torch.nn.Module
        The objective's terms on (images, adversarial, labels); gradients may be averaged
        over processes here.
    """

    network: nn.Module
    terms: nn.Module


def plain_modules(model: nn.Module, objective: Objective) -> StepModules:
    """Call the network as it is."""
    network = _FullLogits(model)
    return StepModules(network, _TermsOf(network, objective))


def compiled_modules(model: nn.Module, objective: Objective, sizes: Collection[int]) -> StepModules:
    """Call a network compiled for the attack, and both terms compiled as one graph.

    Batches of other than the given sizes go through the network as it is.  The attack has a
    graph of its own: its network is in eval mode with frozen parameters, so that every
    BatchNorm folds into one multiplication and no weight has a gradient.
    """
    plain = plain_modules(model, objective)
    network = _FullLogits(compiled(model, dynamic=False))
    terms = compiled(plain.terms, dynamic=False)
    return StepModules(
        CompiledForSizes(network, plain.network, sizes), CompiledForSizes(terms, plain.terms, sizes)
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
    """A network and the objective's terms on a batch as one module.

    However often the terms call the network, several processes average its gradients once.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, images: Tensor, adversarial: Tensor, labels: Tensor) -> Terms:
        """Return both terms; the network is in train mode."""
        return self._objective.terms(self.model, images, adversarial, labels)


class CompiledForSizes(nn.Module):
    """A module compiled for batches of certain sizes, and as it is for all others.

    So the smaller batch that ends an epoch compiles nothing, and which form serves a batch
    depends on nothing that came before it.
    """

    def __init__(self, compiled: nn.Module, plain: nn.Module, sizes: Collection[int]) -> None:
        super().__init__()
        self.compiled, self.plain, self.sizes = compiled, plain, frozenset(sizes)

    def forward(self, images: Tensor, *others: Tensor) -> Tensor | Terms:
        """Return what the form for the size of the batch gives."""
        form = self.compiled if len(images) in self.sizes else self.plain
        output: Tensor | Terms = form(images, *others)
        return output
