"""Where the numbers come from: commits, versions, hardware, checksums, and the way back."""

from collections import Counter

import yaml

from reproduce.config.load import resolved
from reproduce.config.schema import Config
from reproduce.experiments.grids import PublishedEvaluation
from reproduce.experiments.runs import Session
from reproduce.registry import dataset_facts
from reproduce.report.exhibits import Cell, Plain
from reproduce.report.summaries import Images, Summaries
from reproduce.report.view import Provenance
from reproduce.report.words import count


def provenance_view(config: Config, found: Summaries) -> Provenance:
    """Gather what run.json and the summaries of records say of how they were made."""
    pieces: list[Session] = [piece for run in found.runs.values() for piece in run.sessions]
    pieces += [piece for record in found.records.values() for piece in record.pieces]
    commits = Counter(piece.commit or "not a checkout" for piece in pieces)
    dates = sorted(piece.began for piece in pieces if piece.began)
    facts: dict[str, list[str]] = {
        "Preset": [config.preset],
        "Training runs": [f"{len(found.runs)}"],
        "Records": [f"{len(found.records)}, each with the checksum of its own bytes"],
        "Commits": [_commit(name, number) for name, number in commits.most_common()],
        "Hardware": list(dict.fromkeys(_hardware(piece) for piece in pieces if piece.name)),
        "Runs began": list(dict.fromkeys((dates[0], dates[-1]))) if dates else [],
    }
    return Provenance(
        tuple((word, tuple(lines) or ("no run yet",)) for word, lines in facts.items()),
        _versions(pieces),
        _data(found),
        _models(found),
        yaml.safe_dump(resolved(config), sort_keys=False, allow_unicode=True),
        _commands([name for name, _ in commits.most_common()], pieces),
    )


def _commit(name: str, number: int) -> str:
    plain = name.removesuffix("-dirty")
    changed = "" if plain == name else " with changes that were not committed"
    return f"{plain}{changed} ({count(number, 'piece')} of work)"


def _hardware(piece: Session) -> str:
    several = f"{piece.processes} × " if piece.processes > 1 else ""
    return f"{several}{piece.name} ({piece.device})"


def _versions(pieces: list[Session]) -> Plain:
    """Return a row a library: the versions that computed something."""
    seen: dict[str, dict[str, None]] = {}
    for piece in pieces:
        for name, number in piece.versions.items():
            seen.setdefault(name, {})[number] = None
    rows = tuple((Cell(name), Cell(", ".join(numbers))) for name, numbers in seen.items())
    return Plain("versions", "Versions that computed the results", ("Library", "Version"), rows)


def _data(found: Summaries) -> Plain:
    """Return a row for every set of images that a run or a record is of."""
    seen: dict[tuple[str, Images], None] = {
        (c.dataset, Images.model_validate(r.data.model_dump())): None for c, r in found.runs.items()
    }
    for item, record in found.records.items():
        name = item.dataset if isinstance(item, PublishedEvaluation) else item.cell.dataset
        if record.data is not None:
            seen[name, record.data] = None
    rows = tuple(
        (
            Cell(dataset_facts(name).title),
            Cell(images.source),
            Cell("yes" if images.official else "no"),
            Cell(f"{images.train:,}", images.train),
            Cell(f"{images.test:,}", images.test),
            Cell(images.sha256, code=True),
        )
        for name, images in seen
    )
    heads = ("Data set", "Source", "Verified", "Training images", "Test images", "SHA-256")
    return Plain("data", "Images, as prepared", heads, rows)


def _models(found: Summaries) -> Plain:
    """Return a row for every checkpoint of every run."""
    rows = tuple(
        (Cell(cell.id, code=True), Cell(checkpoint), Cell(sha256, code=True))
        for cell, run in found.runs.items()
        for checkpoint, sha256 in run.models.items()
    )
    return Plain("models", "Checkpoints", ("Cell", "Checkpoint", "SHA-256"), rows)


def _commands(commits: list[str], pieces: list[Session]) -> str:
    """Return what makes these results again, line by line."""
    checkout = [f"git checkout {name.removesuffix('-dirty')}" for name in commits[:1]]
    if commits[:1] == ["not a checkout"]:
        checkout = []
    gpus = " --resources gpu=1" if any(piece.device == "cuda" for piece in pieces) else ""
    lines = [
        *checkout,
        "make environment && source .venv/bin/activate",
        "# config.yaml: the configuration below, as resolved",
        f"snakemake all --cores 2{gpus}",
        "reproduce report",
    ]
    return "\n".join(lines)
