"""Fuzz the readers of files from outside: ``python tests/fuzz/run.py pickles --seconds 60``.

With atheris (envs/fuzz.lock) inputs are led by the branches that they take in the harness, in
pickle and zipfile; without it whole files are damaged blindly.  An input that
breaks the property of `reader.holds` is kept in the folder given by --keep, and the exit
status is not 0; of several readers led by atheris those after it are not fuzzed then.
"""

import argparse
import importlib
import multiprocessing
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("reader", nargs="+", help="a reader of readers.py, or all")
    parser.add_argument("--seconds", type=float, default=30, help="for each reader (30)")
    parser.add_argument("--seed", type=int, default=0, help="of blind damage (0)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder")
    parser.add_argument("--blind", action="store_true", help="do without atheris")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    guided = None if given.blind else _atheris()
    if guided is None:
        from fuzz.readers import READERS
    else:
        # what is imported already stays as it is: to instrument torch would take minutes
        for name in ("torch", "pandas", "pyarrow.parquet", "safetensors.torch", "PIL.Image"):
            importlib.import_module(name)
        inside = ["reproduce", "pickle", "zipfile", "yaml"]
        for name in ("pickle", "zipfile"):
            sys.modules.pop(name)
        with guided.instrument_imports(include=inside):
            from fuzz.readers import READERS
    names = list(READERS) if given.reader == ["all"] else given.reader
    if unknown := [name for name in names if name not in READERS]:
        parser.error(f"unknown reader {unknown[0]!r}; known: {', '.join(READERS)}")
    if guided is None:
        sys.exit(sum(_blindly(name, given) for name in names) > 0)
    if len(names) == 1:
        _led(guided, names[0], given)
    sys.exit(any(_in_a_process(guided, name, given) for name in names))


def _atheris() -> object:
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: inputs are whole files damaged blindly", flush=True)
        return None
    return atheris


def _blindly(name: str, given: argparse.Namespace) -> int:
    """Damage whole files for some seconds; return how many broke the property."""
    from fuzz.mutations import mutate
    from fuzz.reader import holds
    from fuzz.readers import READERS

    reader, rng = READERS[name], random.Random(given.seed)
    seeds, counts, slowest = reader.seeds(), {True: 0, False: 0, None: 0}, 0.0
    end = time.monotonic() + given.seconds
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            data, begin = mutate(rng.choice(seeds), seeds, rng), time.monotonic()
            try:
                counts[holds(reader, data, Path(folder))] += 1
            except Exception as error:  # noqa: BLE001, whatever it is breaks the property
                counts[None] += 1
                print(
                    f"{name}: {type(error).__name__}: {error}; kept in {_keep(given, name, data)}"
                )
            slowest = max(slowest, time.monotonic() - begin)
    print(
        f"{name}: {sum(counts.values())} inputs, {counts[True]} read, {counts[False]} refused, "
        f"{counts[None]} wrong, slowest {slowest:.2f} s",
        flush=True,
    )
    return counts[None]


def _keep(given: argparse.Namespace, name: str, data: bytes) -> Path:
    given.keep.mkdir(parents=True, exist_ok=True)
    path = given.keep / f"{name}-{hash(data) & 0xFFFFFFFF:08x}"
    path.write_bytes(data)
    return path


def _in_a_process(atheris: object, name: str, given: argparse.Namespace) -> bool:
    """Fuzz in a copy of this process, as atheris ends its own; True if the property broke."""
    print(f"fuzzing {name}", flush=True)
    process = multiprocessing.get_context("fork").Process(target=_led, args=(atheris, name, given))
    process.start()
    process.join()
    return process.exitcode != 0


def _led(atheris: object, name: str, given: argparse.Namespace) -> None:
    """Let atheris choose inputs; it ends the process."""
    from fuzz.reader import holds
    from fuzz.readers import READERS

    reader = READERS[name]
    given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(reader.seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-max_total_time={given.seconds:.0f}", "-rss_limit_mb=4096", "-timeout=20"]
        options += [f"-artifact_prefix={given.keep}/{name}-", "-print_final_stats=1"]
        atheris.Setup(
            [sys.argv[0], *options, corpus], lambda data: holds(reader, data, Path(folder))
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
