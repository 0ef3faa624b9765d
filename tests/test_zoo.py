"""RobustBench's zoo: its import, its layout, what is loaded and what is refused."""

import os
import pickle
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_runs import LIGHT, Runs, cifar_config, write_checkpoint
from small_runs import quiet

from reproduce.config.schema import AutoAttack
from reproduce.core.errors import HarnessError
from reproduce.core.files import read_json, write_json
from reproduce.evaluation.records import read_record
from reproduce.experiments import paths
from reproduce.models.load import ModelSource
from reproduce.paper.published import published_models
from reproduce.zoo.checkpoints import ZooCheckpoint, robustbench

PAGE = "\n <!DOCTYPE html><html><body>Google Drive: quota exceeded</body></html>"


def _zoo(folder: Path, name: str = LIGHT, dataset: str = "cifar10") -> ZooCheckpoint:
    return ZooCheckpoint(name, dataset, folder)


def test_the_import_leaves_no_stand_ins_behind() -> None:
    """Else the original AutoAttack would seem to be installed."""
    robustbench("robustbench.utils")
    assert "pkg_resources" not in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] == "autoattack"]
    from reproduce.attacks.autoattack import package_attacks

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


def test_files_lie_in_robustbenchs_layout(tmp_path: Path) -> None:
    folder = tmp_path / "cifar10" / "Linf"
    assert list(_zoo(tmp_path).files()) == [folder / "Wong2020Fast.pt"]
    ensemble = [folder / f"Chen2020Adversarial.pt_m{number}.pt" for number in range(3)]
    assert list(_zoo(tmp_path, "Chen2020Adversarial").files()) == ensemble


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
    # a reason of many lines ends at one of its words
    keys = [f"layer{number}.weight" for number in range(100)]
    write_checkpoint(tmp_path, lambda state: state | dict.fromkeys(keys, torch.zeros(1)))
    with pytest.raises(HarnessError, match=r'"layer\d+\.weight", \.\.\.$'):
        _zoo(tmp_path).load()
    write_checkpoint(tmp_path, lambda _: 7)
    with pytest.raises(HarnessError, match="does not fit RobustBench's network"):
        _zoo(tmp_path).load()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    zoo, touched = _zoo(tmp_path), tmp_path / "touched"
    write_checkpoint(tmp_path)
    whole = zoo.path.read_bytes()
    for content, message in (
        (PAGE.encode(), "is a web page, not the file"),
        (whole[: len(whole) // 2], "is cut short or damaged"),
        (b"", "is empty"),
        (b"\x80\x05K\x01.", "is cut short or damaged"),
    ):
        zoo.path.write_bytes(content)
        for use in (zoo.load, lambda: zoo.obtain(download=True, say=quiet)):
            with pytest.raises(HarnessError, match=message):
                use()
    for force in (False, True):  # torch has a switch that lets files run code
        write_checkpoint(tmp_path, lambda state: {**state, "more": Runs(touched)})
        with pytest.MonkeyPatch.context() as patch, pytest.raises(HarnessError, match="asks for"):
            if force:
                patch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
            zoo.load()
        assert not touched.exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", [2, 4, None])
def test_what_would_run_code_is_told_from_what_is_damaged(
    tmp_path: Path, protocol: int | None
) -> None:
    """PyTorch advises to read such a file with the safety off; we do not pass that on."""
    zoo, touched = _zoo(tmp_path), tmp_path / "touched"
    asked = f"asks for {os.system.__module__}.system: only tensors are read"
    if protocol is None:
        write_checkpoint(tmp_path, lambda _: Runs(touched))
    else:
        zoo.path.parent.mkdir(parents=True)
        torch.save([Runs(touched)], zoo.path, _use_new_zipfile_serialization=False)
        if protocol == 4:  # a pickle of Python's own
            zoo.path.write_bytes(pickle.dumps(Runs(touched), protocol))
            asked = "or torch.save did not write it .Unsupported operand 149.; nothing was run"
    with pytest.raises(HarnessError, match=asked) as caught:
        zoo.load()
    assert "weights_only" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not touched.exists()


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
        (None, "the file host gave no file"),
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


def test_the_command_attacks_a_published_checkpoint(
    tmp_path: Path, run_command: Callable[..., str]
) -> None:
    config = cifar_config(tmp_path, f"data.zoo={tmp_path / 'zoo'}")
    words = ["evaluate", "--zoo", LIGHT, "--dataset", "cifar10", "--images", "10"]
    assert "put RobustBench's file there" in run_command(config, *words, status=1)
    network = write_checkpoint(tmp_path / "zoo")
    assert f"{LIGHT}  pgd20-n10-seed0:  robust" in run_command(config, *words)
    (path,) = (paths.root(config) / "models" / "cifar10").glob(f"{LIGHT}/records/*.npz")
    record = read_record(path)
    assert record.info["pieces"][0]["robustbench"] == version("robustbench")
    images = np.load(tmp_path / "images.npz")["test_images"][record.index]
    batch = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert np.array_equal(record.clean, network(batch).argmax(1).numpy())
    assert "already evaluated" in run_command(config, *words, "--processes", "2")
    for more in (["--weights", "a"], ["--model", "a:b"]):
        assert "which network?" in run_command(config, *words, *more, status=1)
    said = run_command(config, *words, "--architecture", "wrn-10-1", status=1)
    assert "--architecture belongs to --weights" in said


def test_the_command_ends_well_without_a_checkpoint_where_it_may(
    tmp_path: Path, run_command: Callable[..., str]
) -> None:
    config = cifar_config(tmp_path)
    path = _zoo(tmp_path / "zoo").path
    path.parent.mkdir(parents=True)
    words = ["evaluate", "--zoo", LIGHT, "--dataset", "cifar10", "--images", "10"]
    outcome = paths.published_outcome(config, "cifar10", LIGHT, "pgd20-n10", 0)
    for content, reason in ((None, "put RobustBench's file there"), (PAGE, "is a web page")):
        if content is not None:
            path.write_text(content)
        assert f"{LIGHT} cannot be had" in run_command(config, *words, "--optional")
        assert reason in read_json(outcome)["reason"]
        assert reason in run_command(config, *words, status=1)
    write_checkpoint(tmp_path / "zoo")
    assert "robust" in run_command(config, *words, "--optional")
    told = {"model": LIGHT, "evaluated": True, "reason": None, "attempt": 3}
    assert told.items() <= read_json(outcome).items()
    said = run_command(
        config, "evaluate", "--optional", "--model", "a:b", "--dataset", "cifar10", status=1
    )
    assert "--optional belongs to --zoo" in said


def test_the_id_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Equal bytes are another network under another id."""
    prints = []
    for name in (LIGHT, "Ding2020MMA"):
        path = _zoo(tmp_path, name).path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"the same")
        prints.append(ModelSource("cifar10", zoo=_zoo(tmp_path, name)).fingerprint())
    assert prints[0] != prints[1]


def test_the_published_numbers_name_models_of_the_zoo(tmp_path: Path) -> None:
    models = published_models()
    assert len(models) == 14
    assert models["Zhang2019Theoretically"].epsilon == 0.031
    assert models["Carmon2019Unlabeled"].epsilon == 8 / 255
    for name, model in models.items():
        assert len(_zoo(tmp_path, name, model.dataset).files()) == 1
        assert 40 < model.autoattack < min(model.reported, model.natural) + 1e-9
