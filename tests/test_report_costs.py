"""What the page says of hours, and of where the numbers come from."""

import os
from pathlib import Path

import pytest
from report_cases import make_up, paper_config

from reproduce.cell import parse_cell
from reproduce.config.load import CONFIG_VARIABLE, load_config
from reproduce.config.schema import Config
from reproduce.core.files import read_json, write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.report.build import build_report
from reproduce.results.frames import collect, tidy_results
from reproduce.workflow.harness import Harness


@pytest.fixture
def campaign(tmp_path: Path) -> Config:
    config = paper_config(tmp_path)
    make_up(config)
    return config


def test_hours_count_every_run_once(campaign: Config) -> None:
    costs = build_report(campaign).costs
    # 13 runs of an hour
    assert [cell.value for cell in costs.by_table.total[1:]][1] == pytest.approx(13)
    assert sum(float(row[2].value) for row in costs.by_cell.rows) == pytest.approx(13)
    assert len(costs.by_cell.rows) == 18
    assert costs.by_table.rows[0][0].text == "Table 1"
    assert "GPU-hours" in costs.note


def test_hours_of_several_devices_count_each(campaign: Config) -> None:
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    path = paths.run_file(paths.cell_folder(campaign, cell))
    pieces = [
        {"device": "cuda", "seconds": 3600, "processes": 4},
        {"device": "cuda", "seconds": 1800, "processes": 2},
    ]
    write_json(path, read_json(path) | {"pieces": pieces})
    rows = {row[0].text: row for row in build_report(campaign).costs.by_cell.rows}
    assert rows[cell.id][2].value == pytest.approx(5)
    # everybody means the same hours
    frame = collect(campaign, find_experiment(campaign, "table1")).frame
    ours = (frame["architecture"] == "wrn-34-1") & (frame["lambda"] == 6)
    assert frame[ours & (frame["training_seed"] == 0)]["hours"].tolist() == [pytest.approx(5)]
    tidy = tidy_results(campaign).frame
    assert tidy.loc[tidy["model"] == cell.id, "device_hours"].unique() == pytest.approx([5])


def test_provenance_can_be_used_again(campaign: Config, tmp_path: Path) -> None:
    cell = parse_cell("cifar10/wrn-34-1/trades/lam-6/seed-0")
    path = paths.run_file(paths.cell_folder(campaign, cell))
    piece = {
        "began": "2026-01-02T03:04:05+00:00",
        "name": "NVIDIA V100",
        "device": "cuda",
        "seconds": 1,
        "commit": f"{'ab' * 20}-dirty",
        "versions": {"torch": "2.13.0"},
    }
    write_json(path, read_json(path) | {"pieces": [piece]})
    provenance = build_report(campaign).provenance
    facts = dict(provenance.facts)
    assert facts["Commits"] == (
        "not a checkout (12 pieces of work)",
        f"{'ab' * 20} with changes that were not committed (1 piece of work)",
    )
    assert facts["Hardware"] == ("NVIDIA V100 (cuda)", "made up (cuda)")
    assert facts["Training runs"] == ("13",)
    assert facts["Runs began"] == ("2026-01-02T03:04:05+00:00",)
    again = tmp_path / "config.yaml"
    again.write_text(provenance.configuration)
    assert load_config(str(again)) == campaign
    (images,) = provenance.data.rows
    assert (images[0].text, images[3].value) == ("CIFAR-10", 50_000)
    assert len(provenance.models.rows) == 13
    assert "snakemake all --cores 2 --resources gpu=1\n" in provenance.commands
    for other in paths.root(campaign).rglob("run.json"):
        write_json(other, read_json(other) | {"pieces": [piece]})
    commands = build_report(campaign).provenance.commands
    assert f"git checkout {'ab' * 20}\n" in commands


def test_what_the_page_prints_decides_whether_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", CONFIG_VARIABLE):  # which the workflow sets, put back afterwards
        monkeypatch.setenv(name, os.environ.get(name, ""))

    def printed(*sets: str) -> tuple[str, str]:
        config = paper_config(tmp_path, *sets)
        digest = Harness(config.model_dump(mode="json")).report_digest()
        return build_report(config).provenance.configuration, digest

    text, digest = printed()
    # of the machine, not of the results
    assert printed("machine.device=cpu", "machine.loaders=3") == (text, digest)
    other, changed = printed(f"data.folder={tmp_path / 'images'}")
    assert other != text
    assert changed != digest


def test_hours_are_called_by_what_was_held(campaign: Config) -> None:
    """Whatever device the configuration names now."""
    runs = sorted(paths.root(campaign).rglob("run.json"))

    def held(*devices: str) -> str:
        for number, path in enumerate(runs):
            piece = {"device": devices[number % len(devices)], "seconds": 1.0, "processes": 1}
            write_json(path, read_json(path) | {"pieces": [piece]})
        costs = build_report(campaign).costs
        assert costs.by_table.caption.startswith(costs.note.split(",")[0])
        return costs.note.split(",")[0]

    assert campaign.machine.device == "cuda"
    assert held("cuda") == "GPU-hours"
    assert held("cpu") == "Hours of a processor"
    assert held("cpu", "cuda") == "Device-hours"
