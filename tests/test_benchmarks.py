"""The benchmarks: their reference formulations against the formulas, and a small run of each."""

from pathlib import Path

import pytest
import torch
from step_cases import DECAY, LAM, RATE, batch, network, noise_of, reference_step

from benchmarks import autoattack, steps
from benchmarks.references import REFERENCES, Constants
from benchmarks.references import reference_step as official_step
from reproduce.core.rng import generator

# train-mode forwards of each official code, in order: c clean, a adversarial
ORDERS = {"trades": "cac", "at": "ac", "mart": "ca", "awp-trades": "acc"}


@pytest.mark.parametrize("method", REFERENCES)
def test_references_in_float64(method: str) -> None:
    """Loss, updated weights and BatchNorm statistics are those of the formulas written out."""
    trained, model = network(torch.float64), network(torch.float64)
    (images, labels), stream = batch(torch.float64), generator(0, "attack", 1, 0)
    optimizer = torch.optim.SGD(trained.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    proxy = network(torch.float64) if method == "awp-trades" else None
    loss = official_step(
        REFERENCES[method], trained, optimizer, images, labels, Constants(), stream, proxy
    )
    formula, gamma = ("trades", 0.005) if method == "awp-trades" else (method, 0.0)
    noise = noise_of(images)
    expected = reference_step(model, formula, ORDERS[method], images, labels, noise, gamma)
    # the official code of MART adds 1e-7 to its weights and 1e-12 to its logarithms' arguments
    limit = 1e-6 if method == "mart" else 1e-10
    assert abs(loss - (expected.natural + LAM * expected.robust)) < limit
    for name, value in expected.state.items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=limit, atol=limit)


def test_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--architectures", "wrn-10-0.25", "--batch", "4", "--pairs", "2"]
    steps.main([*options, "--methods", "trades", "--json", str(tmp_path / "found.json")])
    printed = capsys.readouterr().out
    assert "by passes 1.44" in printed  # 39 forward passes of the official code, 27 of ours
    assert '"theirs": [' in (tmp_path / "found.json").read_text()
    with pytest.raises(SystemExit):
        steps.main(["--methods", "none"])
    assert "there are trades" in capsys.readouterr().err


def test_autoattack(weights: Path, digits_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both give the same verdicts, image by image."""
    few = "eval.attacks.autoattack={kind: autoattack, steps: 5, queries: 20}"
    options = ["--weights", str(weights), "--architecture", "wrn-10-0.25", "--dataset", "digits"]
    for setting in (few, "eval.epsilon=0.15", f"data.folder={digits_folder}"):
        options += ["--set", setting]
    options += ["--images", "12"]
    autoattack.main(options)
    assert ", 0 verdicts differ; package / ours" in capsys.readouterr().out
