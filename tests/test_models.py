"""Networks: counts of parameters and operations, initial weights, what is computed."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reproduce.cell import parse_cell
from reproduce.core.errors import HarnessError
from reproduce.core.rng import derive, own_random_numbers
from reproduce.core.vision import torchvision
from reproduce.experiments import cost
from reproduce.models.load import build_model
from reproduce.registry import dataset_facts

CIFAR = dataset_facts("cifar10")
DIGITS = dataset_facts("digits")
IMAGENET = dataset_facts("imagenet")


@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        ("wrn-34-10", 46.16),
        ("densenet-bc-40-12", 0.18),
        ("wrn-50-1", 25.56),
        ("wrn-50-2", 68.88),
    ],
)
def test_published_counts(architecture: str, millions: float) -> None:
    with torch.device("meta"):
        model = build_model(architecture, IMAGENET if "wrn-50" in architecture else CIFAR)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("architecture", "facts"),
    [
        ("wrn-10-0.0625", CIFAR),
        ("wrn-16-0.5", DIGITS),
        ("densenet-bc-16-12", CIFAR),
        # of an odd size, where every halving rounds
        ("wrn-50-0.25", replace(IMAGENET, size=37, classes=7)),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_costs_agree_with_the_network(architecture: str, facts) -> None:
    with torch.device("meta"):
        model = build_model(architecture, facts).eval()
        images = torch.zeros(1, facts.channels, facts.size, facts.size)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        assert model(images).shape == (1, facts.classes)
    assert cost.forward_operations(architecture, facts) == counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert cost.parameters(architecture, facts) == parameters


def test_initialisation_follows_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build_model("wrn-10-0.25", DIGITS, seed=3).state_dict()
    before = torch.random.get_rng_state()
    second = build_model("wrn-10-0.25", DIGITS, seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    other = build_model("wrn-10-0.25", DIGITS, seed=4).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_initialisation_is_he_by_fan_out() -> None:
    model = build_model("wrn-10-4", CIFAR)
    weight = model.block3.layer[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert not model.fc.bias.any()


def test_resnet50_is_torchvisions() -> None:
    """Names, initial weights and function are those of the published network, normalised."""
    ours = build_model("wrn-50-0.25", IMAGENET, seed=1).eval()
    resnet, transforms = map(torchvision, ("torchvision.models.resnet", "torchvision.transforms"))
    with own_random_numbers(torch.device("cpu"), derive(1, "initialisation")):
        theirs = resnet.ResNet(resnet.Bottleneck, [3, 4, 6, 3], width_per_group=16).eval()
    state = theirs.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in ours.state_dict().items())
    images = torch.rand(2, 3, 40, 40)
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(ours(images), theirs(normalise(images)))


def test_networks_and_images_must_be_of_one_kind() -> None:
    with pytest.raises(HarnessError, match="'wrn-50-1' is not for CIFAR-10"):
        build_model("wrn-50-1", CIFAR)
    with pytest.raises(HarnessError, match="'wrn-34-1' is not for ImageNet"):
        cost.parameters("wrn-34-1", IMAGENET)
    with pytest.raises(HarnessError, match="takes wrn-50-WIDTH"):
        parse_cell("imagenet/densenet-bc-40-12/at/lam-1/seed-0")
    assert parse_cell("imagenet/wrn-50-2/at/lam-1/seed-0").architecture == "wrn-50-2"
