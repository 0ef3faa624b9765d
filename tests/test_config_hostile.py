"""Configurations that no user means: each is one clear line, and nothing is made."""

import re
from pathlib import Path

import pytest

from reproduce.config.load import load_config
from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
HUGE = "9" * 400

FILES = [
    ("train: " + "[" * 5000, "nested too deeply"),
    (_BOMB, "unknown key 'a'"),
    (_BOMB.replace("a:", "train: {epochs: 1}\na:") + "data: {test_images: *l}", "data.test_images"),
    (_BOMB + "preset: *l", "unknown preset"),
    ("preset: demo\ntrain: &a {b: *a}", "unknown key 'train.b'"),
    ("preset: &a [*a]", "unknown preset"),
    (f"train: {{epochs: {HUGE * 12}}}", "not YAML.*digits"),
    (f"train: {{epochs: {HUGE}}}", "train.epochs.*less than or equal to 10000"),
    ("train: {epochs: 10001}", "train.epochs"),
    ("data: {test_images: 1000000001}", "data.test_images"),
    (f"war: {{zeta: {HUGE}}}", "war.zeta"),
    (f"eval: {{epsilon: {HUGE}}}", "eval.epsilon"),
    ("a: 2001-99-99", "not YAML: a value is not what it says: month"),
    ("a: !!int x", "not YAML"),
    ("a: !!float x", "not YAML"),
    ("a: !!bool x", "not YAML"),
    ("a: !!timestamp x", "not YAML"),
    ("a: !!binary x", "not YAML"),
    ("a: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
    ("? [a]\n: 1", "not YAML.*unhashable"),
    ("train: {? {a: 1} : 2}", "not YAML.*unhashable"),
    ("train: {epochs: 1, epochs: 2}", "key 'epochs' stands twice"),
    ("train: {1: 2}", "train.1.*[Kk]eys should be strings"),
    ('results: "a\\0b"', "'results': not a path"),
    ('data: {cifar10: "a\\0b"}', "data.cifar10.*not a path"),
    ("data: {zoo: ~nobodyhasthisname/zoo}", "data.zoo.*no such user"),
    ("results: $NOT_SET_ANYWHERE/x", r"'results': not a path: \$NOT_SET_ANYWHERE is not set"),
    ("data: {imagenet: 'a/${NOT SET}'}", r"data.imagenet.*\$\{NOT SET\} is not set"),
    ('results: "\\uD800"', "results"),
    ("a" * 5000, "must be a mapping"),
    (f"{'a' * 900}: 1", "unknown key 'aaa"),
    ("- 1", "must be a mapping"),
    ("\x00", "not YAML"),
]


@pytest.mark.parametrize(("text", "message"), FILES, ids=range(len(FILES)))
def test_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(HarnessError, match=message):
        load_config(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("", "expected key=value"),
        ("=1", "expected key=value"),
        ("a." * 5000 + "b=1", "unknown key 'a'"),
        ("train.epochs=" + "[" * 5000, "not a YAML value: it is nested too deeply"),
        ("train={epochs: 1, epochs: 2}", "stands twice"),
        ("train.epochs=2001-99-99", "not a YAML value"),
        ("train..epochs=1", "unknown key 'train.'"),
        ("train.\ud800=1", "train"),
        ("results=\udcff", "not a YAML value"),
    ],
)
def test_overrides(item: str, message: str) -> None:
    with pytest.raises(HarnessError, match=message) as refused:
        load_config("{}", "demo", [item])
    assert str(refused.value).isprintable()


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match=re.escape(f"{path} is not YAML")):
        load_config(path)


def test_a_path_that_is_none() -> None:
    with pytest.raises(HarnessError, match=r"a\\x00b"):
        load_config("a\0b")


def test_a_mapping_written_out_is_not_repeated_in_the_error() -> None:
    with pytest.raises(HarnessError, match=r"^configuration given as a mapping is not YAML"):
        load_config('{"preset": "demo", ' + "x" * 5000)


def test_large_numbers_that_are_meant() -> None:
    config = load_config("{}", "mini", ["train.epochs=10000", "eval.shard=1000000000"])
    assert isinstance(config, Config)
