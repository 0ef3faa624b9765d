"""RobustBench's zoo: its import, its layout, what is loaded, refused, known and attacked."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cifar_runs import LIGHT, Runs, cifar_config, write_checkpoint
from small_runs import quiet

from reproduce.attacks.autoattack import package_attacks
from reproduce.config.attacks import AutoAttack
from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.evaluate import evaluate_published
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.experiments.grids import PublishedEvaluation, find_experiment
from reproduce.models.load import ModelSource
from reproduce.paper.published import published_models
from reproduce.results.frames import collect
from reproduce.results.reader import find_record, record_path
from reproduce.tables.diff import build_diff
from reproduce.tables.write import write_table
from reproduce.zoo.checkpoints import (
    ZooCheckpoint,
    ZooFacts,
    robustbench,
    zoo_facts,
)

PAGE = "\n <!DOCTYPE html><html><body>Google Drive: quota exceeded</body></html>"
ITEM = PublishedEvaluation(LIGHT, "cifar10", "pgd20", seed=0)


def _zoo(folder: Path, name: str = LIGHT, dataset: str = "cifar10") -> ZooCheckpoint:
    return ZooCheckpoint(name, dataset, folder)


def test_the_import_leaves_no_stand_ins_behind() -> None:
    """Else the original AutoAttack would seem to be installed."""
    robustbench("robustbench.utils")
    assert "pkg_resources" not in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] == "autoattack"]
    with pytest.raises(HarnessError, match="'autoattack', which is not installed"):
        package_attacks(
            AutoAttack(kind="autoattack"),
            torch.nn.Flatten(),
            package="autoattack",
            epsilon=0.1,
            classes=10,
            device=torch.device("cpu"),
        )


def test_without_robustbench_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "robustbench"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(HarnessError, match="there is no robustbench; pip install robustbench"):
        _zoo(tmp_path).files()


def _wrapped(state: dict) -> dict:
    """As published: names of DataParallel, an accuracy of numpy's, constants not saved."""
    plain = {f"module.{k}": v for k, v in state.items() if k not in ("mu", "sigma")}
    return {"state_dict": plain, "epoch": 200, "best": np.float64(0.43), "loss": np.float32(2)}


@pytest.mark.parametrize("wrap", [dict, _wrapped])
def test_robustbench_loads_its_checkpoints(tmp_path: Path, wrap: Callable[[dict], object]) -> None:
    network = write_checkpoint(tmp_path, wrap)
    images = torch.rand(2, 3, 32, 32)
    loaded = _zoo(tmp_path).load()
    assert torch.equal(loaded(images), network(images))
    assert not loaded.training


def test_a_card_never_says_what_a_published_model_is(tmp_path: Path) -> None:
    network = write_checkpoint(tmp_path)
    zoo = _zoo(tmp_path)
    write_json(zoo.card, {"architecture": "WideResNet-10-1"})
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(zoo.load()(images), network(images))
    # where its file is to come from
    assert list(zoo.files().values()) != [""]
    elsewhere = _zoo(tmp_path, dataset="cifar100")
    write_json(elsewhere.card, {"architecture": "WideResNet-10-1"})
    with pytest.raises(HarnessError, match=f"RobustBench has no cifar100 model '{LIGHT}'"):
        elsewhere.load()


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("Zhang2019Theory", "cifar10", "no cifar10 model 'Zhang2019Theory' .*2019Theoretically"),
        ("", "cifar10", "'' is no model id"),
        ("../Wong2020Fast", "cifar10", "'../Wong2020Fast' is no model id"),
        ("Wong2020Fast", "cifar100", "RobustBench has no cifar100 model"),
        ("Wong2020Fast", "digits", "no models of 'digits'; it has: cifar10, cifar100, imagenet"),
        ("Debenedetti2022Light_XCiT-S12", "cifar10", "through timm, it has no file for it"),
        (LIGHT, "cifar10", r"Linf/Wong2020Fast.pt does not exist; put RobustBench's file there"),
    ],
)
def test_what_is_not_there(tmp_path: Path, name: str, dataset: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        _zoo(tmp_path, name, dataset).obtain(download=False, say=quiet)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, lambda state: dict(list(state.items())[:-1]))
    with pytest.raises(HarnessError, match="does not fit RobustBench's network for Wong2020Fast"):
        _zoo(tmp_path).load()
    write_checkpoint(tmp_path, lambda _: 7)
    with pytest.raises(HarnessError, match="does not fit RobustBench's network"):
        _zoo(tmp_path).load()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    zoo, touched = _zoo(tmp_path), tmp_path / "touched"
    write_checkpoint(tmp_path, lambda state: {**state, "more": Runs(touched)})
    with pytest.raises(HarnessError, match="asks for"):
        zoo.load()
    assert not touched.exists()
    zoo.path.write_text(PAGE)
    for use in (zoo.load, lambda: zoo.obtain(download=True, say=quiet)):
        with pytest.raises(HarnessError, match="is a web page, not the file"):
            use()


def _host(monkeypatch: pytest.MonkeyPatch, answer: bytes | Exception | None) -> None:
    """Let the file host answer every download with the same bytes, an error or nothing."""

    def download(_: str, path: Path) -> None:
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            Path(path).write_bytes(answer)

    monkeypatch.setattr(robustbench("robustbench.utils"), "download_gdrive_new", download)


def test_a_download_is_kept_only_if_it_is_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "other")
    whole = _zoo(tmp_path / "other").path.read_bytes()
    zoo = _zoo(tmp_path)
    for answer, message in (
        (
            PAGE.encode(),
            "could not be downloaded from https://drive.*, nothing was kept: .*web page",
        ),
        (whole[:-1000], "nothing was kept: .* cut short or damaged"),
        (None, "nothing was kept: .* does not exist"),
        (ConnectionError("no route\nto host"), "could not be downloaded .*: no route to host"),
    ):
        _host(monkeypatch, answer)
        with pytest.raises(HarnessError, match=message):
            zoo.obtain(download=True, say=quiet)
        assert not [path for path in tmp_path.glob("cifar10/Linf/*") if path.is_file()]
    _host(monkeypatch, whole)
    with pytest.raises(HarnessError, match="does not exist"):
        zoo.obtain(download=False, say=quiet)
    zoo.obtain(download=True, say=quiet)
    assert zoo.path.read_bytes() == whole
    _host(monkeypatch, AssertionError("what is there is not downloaded again"))
    zoo.obtain(download=True, say=quiet)


def _config(folder: Path, *sets: str) -> Config:
    attack = "eval.attacks.pgd20={steps: 1, images: 10}"
    return cifar_config(folder, f"data.zoo={folder / 'zoo'}", attack, *sets)


def test_the_command_attacks_a_published_checkpoint(
    tmp_path: Path, run_command: Callable[..., str]
) -> None:
    config = _config(tmp_path)
    place, path = record_path(config, ITEM), _zoo(tmp_path / "zoo").path
    path.parent.mkdir(parents=True)
    words = ["evaluate", "--zoo", LIGHT, "--dataset", "cifar10"]
    # without a checkpoint, a small file says why
    for content, reason in ((None, "put RobustBench's file there"), (PAGE, "is a web page")):
        if content is not None:
            path.write_text(content)
        assert reason in run_command(config, *words, status=1)
        assert f"{LIGHT} cannot be had" in run_command(config, *words, "--optional")
        assert reason in find_record(config, ITEM).reason
        assert read_json(paths.published_outcome(place))["evaluated"] is False
    network = write_checkpoint(tmp_path / "zoo")
    assert f"{LIGHT}  pgd20-n10-seed0:  robust" in run_command(config, *words, "--optional")
    told = {"model": LIGHT, "evaluated": True, "reason": None}
    assert told.items() <= read_json(paths.published_outcome(place)).items()
    record = read_record(place)
    assert record.info["pieces"][0]["robustbench"] == version("robustbench")
    images = np.load(tmp_path / "images.npz")["test_images"][record.index]
    batch = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert np.array_equal(record.clean, network(batch).argmax(1).numpy())
    assert "already evaluated" in run_command(config, *words, "--processes", "2")


def test_a_record_counts_for_the_weights_that_lie_there(tmp_path: Path) -> None:
    config = _config(tmp_path)
    place, zoo = record_path(config, ITEM), _zoo(tmp_path / "zoo")
    network = write_checkpoint(zoo.folder)
    record = evaluate_published(config, zoo, "pgd20", 0, say=quiet)
    assert find_record(config, ITEM).status == "ok"
    zoo.path.touch()  # the same bytes at another time
    assert find_record(config, ITEM).status == "ok"
    torch.save({key: value + 1 for key, value in network.state_dict().items()}, zoo.path)
    assert "is of other weights" in find_record(config, ITEM).reason
    again = evaluate_published(config, zoo, "pgd20", 0, say=quiet)
    assert again.info["model_sha256"] != record.info["model_sha256"]
    zoo.path.unlink()  # what was evaluated stays so without its checkpoint
    paths.published_outcome(place).write_text("{")
    assert find_record(config, ITEM).status == "ok"
    place.unlink()
    assert "is damaged" in find_record(config, ITEM).reason


def test_the_fingerprint_is_of_the_id_and_every_file(tmp_path: Path) -> None:
    prints = []
    for name, suffixes in ((LIGHT, [""]), ("Ding2020MMA", [""]), (LIGHT, ["_m0.pt", "_m10.pt"])):
        zoo = _zoo(tmp_path / str(len(prints)), name)
        zoo.path.parent.mkdir(parents=True)
        for suffix in suffixes:
            Path(f"{zoo.path}{suffix}").write_bytes(b"the same")
        prints.append(ModelSource("cifar10", zoo=zoo).fingerprint())
    assert len(set(prints)) == 3
    with pytest.raises(HarnessError, match="does not exist"):
        _zoo(tmp_path / "none").fingerprint()


def test_the_published_numbers_name_models_of_the_zoo(tmp_path: Path) -> None:
    models = published_models()
    assert len(models) == 14
    assert models["Zhang2019Theoretically"].epsilon == 0.031
    assert models["Carmon2019Unlabeled"].epsilon == 8 / 255
    for name, model in models.items():
        folder = tmp_path / model.dataset / "Linf"
        assert list(_zoo(tmp_path, name, model.dataset).files()) == [folder / f"{name}.pt"]
        assert 40 < model.autoattack < min(model.reported, model.natural) + 1e-9
    ensemble = [f"Chen2020Adversarial.pt_m{number}.pt" for number in range(3)]
    assert [path.name for path in _zoo(tmp_path, "Chen2020Adversarial").files()] == ensemble


OURS, BARE, RST = "Wu2020Do", "Gowal2020Uncovering_28_10_extra", "Carmon2019Unlabeled"
CARD = {"architecture": "WideResNet-10-2", "additional_data": True, "eps": "0.031"}


def _table(
    folder: Path, *names: str, dataset: str = "cifar10"
) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """Return Table 4, its CSV and its comparison with the paper, by the checkpoints' names."""
    rows = {"published": f"[{', '.join(names)}]", "trained": "{}", "dataset": dataset}
    sets = [f"experiments.table4.{key}={value}" for key, value in rows.items()]
    places = [f"results={folder}", f"data.folder={folder}"]
    config = load_config("{}", "paper", [*places, *sets])
    experiment = find_experiment(config, "table4")
    results = collect(config, experiment)
    text = write_table(config, experiment, results)
    frame = pd.read_csv(paths.table_file(config, "table4", "csv")).set_index("method")
    return text, frame, build_diff(config, experiment, results).set_index("method")


def test_table4_says_what_cards_say_and_what_is_unknown(tmp_path: Path) -> None:
    for name in (OURS, RST):  # a card does not speak for a checkpoint that the paper has
        write_json(_zoo(tmp_path / "zoo", name).card, CARD)
    text, frame, diff = _table(tmp_path, BARE, OURS, RST)
    parts = text.split("\n## ")
    assert [part.partition("\n")[0] for part in parts[1:]] == [
        "With extra images",
        "Extra images unknown",
    ]
    assert f"| {OURS} " in parts[1]
    assert "RST, Carmon et al. 2019 | WideResNet-28-10" in parts[1]
    assert f"| {BARE} | unknown " in parts[2]
    networks = {OURS: "WideResNet-10-2", RST: "WideResNet-28-10", BARE: "unknown"}
    assert frame["architecture"].to_dict() == networks
    assert frame.loc[[OURS, RST], "extra_images"].tolist() == [True, True]
    assert pd.isna(frame.loc[BARE, "extra_images"])
    assert f"{OURS}: reported at epsilon 0.031, measured here" in text
    assert f"{BARE}: no card says its network, extra images" in text
    assert f"{RST}: " not in text
    named = {OURS: "wrn-10-2", RST: "wrn-28-10", BARE: "unknown"}
    assert diff["architecture"].to_dict() == named


def test_a_name_of_another_data_set_is_not_the_papers(tmp_path: Path) -> None:
    text, frame, _ = _table(tmp_path, RST, dataset="cifar100")
    assert frame.loc[RST, "architecture"] == "unknown"
    assert "Carmon et al." not in text
    assert frame["leaderboard"].isna().all()


def test_facts_of_a_card(tmp_path: Path) -> None:
    checkpoint = _zoo(tmp_path, OURS)
    assert zoo_facts(checkpoint) == ZooFacts()
    write_json(checkpoint.card, {**CARD, "eps": "8/255", "additional_data": None})
    facts = zoo_facts(checkpoint)
    assert (facts.architecture, facts.epsilon) == ("WideResNet-10-2", 8 / 255)
    assert facts.unknown == ["extra images"]
    # a number, not text, as in some of RobustBench's cards
    write_json(checkpoint.card, {"architecture": "ResNet-18", "eps": 0.031})
    facts = zoo_facts(checkpoint)
    assert (facts.network, facts.epsilon) == ("ResNet-18", 0.031)
    for field, value in (
        ("architecture", 34),
        ("additional_data", "no"),
        ("eps", "8/0"),
        ("eps", "small"),
    ):
        write_json(checkpoint.card, CARD | {field: value})
        with pytest.raises(HarnessError, match=f"{OURS}.json is damaged at '{field}'"):
            zoo_facts(checkpoint)
