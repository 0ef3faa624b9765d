"""Checkpoints that the paper does not have, in Table 4: what their cards in the zoo say."""

from pathlib import Path

import pandas as pd
import pytest

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import write_json
from reproduce.experiments import paths
from reproduce.experiments.grids import find_experiment
from reproduce.results.frames import collect
from reproduce.tables.diff import build_diff
from reproduce.tables.write import write_table
from reproduce.zoo.checkpoints import ZooCheckpoint, ZooFacts, zoo_facts

OURS, BARE, RST = "Wu2020Do", "Gowal2020Uncovering_28_10_extra", "Carmon2019Unlabeled"
CARD = {"architecture": "WideResNet-10-2", "additional_data": True, "eps": "0.031"}


def _config(folder: Path, *names: str, dataset: str = "cifar10") -> Config:
    rows = {"published": f"[{', '.join(names)}]", "trained": "{}", "dataset": dataset}
    sets = [f"experiments.table4.{key}={value}" for key, value in rows.items()]
    return load_config("{}", "paper", [f"results={folder}", f"data.folder={folder}", *sets])


def _table(config: Config) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Return the table, its CSV and its comparison with the paper, by the checkpoints' names."""
    experiment = find_experiment(config, "table4")
    results = collect(config, experiment)
    text = write_table(config, experiment, results)
    frame = pd.read_csv(paths.table_file(config, "table4", "csv")).set_index("method")
    return text, frame, build_diff(config, experiment, results).set_index("method")


def test_table4_says_what_cards_say_and_what_is_unknown(tmp_path: Path) -> None:
    config = _config(tmp_path, BARE, OURS, RST)
    for name in (OURS, RST):  # a card does not speak for a checkpoint that the paper has
        write_json(ZooCheckpoint(name, "cifar10", tmp_path / "zoo").card, CARD)
    text, frame, diff = _table(config)
    parts = text.split("\n## ")
    assert [part.partition("\n")[0] for part in parts[1:]] == [
        "With extra images",
        "Extra images unknown",
    ]
    assert f"| {OURS} " in parts[1]
    assert "RST, Carmon et al. 2019 | WideResNet-28-10" in parts[1]
    assert f"| {BARE} | unknown " in parts[2]
    assert frame["architecture"].to_dict() == {
        OURS: "WideResNet-10-2",
        RST: "WideResNet-28-10",
        BARE: "unknown",
    }
    assert frame.loc[[OURS, RST], "extra_images"].tolist() == [True, True]
    assert pd.isna(frame.loc[BARE, "extra_images"])
    assert f"{OURS}: the numbers of its card in the zoo are at epsilon 0.031; measured" in text
    assert f"{BARE}: not known here, and no card in the zoo says it: network, extra images" in text
    assert f"{RST}: " not in text
    named = {OURS: "wrn-10-2", RST: "wrn-28-10", BARE: "unknown"}
    assert diff["architecture"].to_dict() == named


def test_a_name_of_another_data_set_is_not_the_papers(tmp_path: Path) -> None:
    text, frame, _ = _table(_config(tmp_path, RST, dataset="cifar100"))
    assert frame.loc[RST, "architecture"] == "unknown"
    assert "Carmon et al." not in text
    assert frame["leaderboard"].isna().all()


def test_facts_of_a_card(tmp_path: Path) -> None:
    checkpoint = ZooCheckpoint(OURS, "cifar10", tmp_path)
    assert zoo_facts(checkpoint) == ZooFacts()
    write_json(checkpoint.card, {**CARD, "eps": "8/255", "additional_data": None})
    facts = zoo_facts(checkpoint)
    assert facts == ZooFacts("WideResNet-10-2", None, 8 / 255)
    assert facts.unknown == ["extra images"]
    # a number, not text, as in some of RobustBench's cards
    write_json(checkpoint.card, {"architecture": "ResNet-18", "eps": 0.031})
    facts = zoo_facts(checkpoint)
    assert (facts.network, facts.epsilon) == ("ResNet-18", 0.031)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"architecture": 34}, "architecture 34: expected a network's name"),
        ({"additional_data": "no"}, "additional_data 'no': expected true or false"),
        ({"eps": "8/0"}, "eps '8/0': expected a radius, such as 8/255"),
        ({"eps": "small"}, "eps 'small': expected a radius"),
    ],
)
def test_cards_that_cannot_be_read(tmp_path: Path, field: dict[str, object], message: str) -> None:
    checkpoint = ZooCheckpoint(OURS, "cifar10", tmp_path)
    write_json(checkpoint.card, CARD | field)
    with pytest.raises(HarnessError, match=f"{OURS}.json: {message}"):
        zoo_facts(checkpoint)
