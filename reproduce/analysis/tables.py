"""Tables in the paper's layout, as CSV, Markdown and LaTeX."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from reproduce import paths
from reproduce.analysis.diff import diff_caveats
from reproduce.analysis.results import Results
from reproduce.analysis.statistics import Sample, sample
from reproduce.catalogue import METHODS, dataset_facts, parse_architecture
from reproduce.config import Config
from reproduce.evaluation import METRICS
from reproduce.experiments import Experiment
from reproduce.files import write_text
from reproduce.settings import deviations

_TITLES = {
    "robust_accuracy": "Robust accuracy (%)",
    "natural_accuracy": "Natural accuracy (%)",
    "perturbation_stability": "Perturbation stability (%)",
}
_SHORT = {
    "robust_accuracy": "Robust",
    "natural_accuracy": "Natural",
    "perturbation_stability": "Stability",
}
_MISSING = "–"


@dataclass(frozen=True)
class Layout:
    """A table before it is written: rows (method, lambda), columns (metric, architecture)."""

    rows: list[tuple[str, float]]
    columns: list[tuple[str, str]]
    values: dict[tuple[str, float, str, str], Sample]
    seeds: int

    def at(self, row: tuple[str, float], column: tuple[str, str]) -> Sample:
        """Return the sample of one entry."""
        return self.values[*row, *column]

    def best(self, row: tuple[str, float], column: tuple[str, str]) -> bool:
        """Say whether an entry is the highest of its column among its method's rows."""
        means = [self.at(other, column).mean for other in self.rows if other[0] == row[0]]
        known = [mean for mean in means if not math.isnan(mean)]
        return len(known) > 1 and self.at(row, column).mean == max(known)


def lay_out(experiment: Experiment, results: Results) -> Layout:
    """Arrange an experiment's metrics as the paper's Table 1 does."""
    grid = experiment.grid
    rows = [(method, lam) for method, lams in grid.methods.items() for lam in lams]
    columns = [(metric, architecture) for metric in METRICS for architecture in grid.architectures]
    values = {}
    for method, lam in rows:
        for metric, architecture in columns:
            frame = results.frame
            chosen = frame[
                (frame["method"] == method)
                & (frame["lambda"] == lam)
                & (frame["architecture"] == architecture)
            ]
            values[method, lam, metric, architecture] = sample(chosen[metric].tolist())
    return Layout(rows, columns, values, len(grid.seeds))


def write_table(config: Config, experiment: Experiment, results: Results) -> str:
    """Write a table in its three forms.

    Returns
    -------
    str
        The Markdown form.
    """
    layout = lay_out(experiment, results)
    notes = table_notes(config, experiment, results)
    markdown = _markdown(experiment, layout, notes)
    forms = {"csv": _csv(layout), "md": markdown, "tex": _latex(experiment, layout, notes)}
    for suffix, text in forms.items():
        write_text(paths.table_file(config, experiment.name, suffix), text)
    return markdown


def table_notes(config: Config, experiment: Experiment, results: Results) -> list[str]:
    """Say under a table what its numbers are: protocol, seeds, images, and what is missing."""
    grid, attack = experiment.grid, config.eval.attacks["pgd20"]
    images = sorted(set(results.frame["images"])) or ["no"]
    notes = [
        f"Preset {config.preset}: {dataset_facts(grid.dataset).title}, {images[-1]} test images, "
        f"{config.train.epochs} epochs, checkpoint {config.eval.checkpoint}, PGD with "
        f"{attack.steps} steps of {attack.step_size:.4g}, epsilon {config.eval.epsilon:.4g}.",
        f"Mean ± sample standard deviation over {len(grid.seeds)} training seed(s); "
        "bold: best of a column within its method.",
    ]
    changed = deviations(config)
    if changed:
        notes.append(f"Not the paper's protocol: {'; '.join(changed)}.")
    notes += [f"Note: {caveat}." for caveat in diff_caveats(results)]
    if results.missing:
        notes.append(
            f"{results.missing} of {results.planned} evaluations have no result yet ({_MISSING}; "
            "n/N: seeds done and planned)."
        )
    notes += [f"Left out: {problem}" for problem in results.problems]
    return notes


def _csv(layout: Layout) -> str:
    """Write the layout with the mean, standard deviation and number of seeds of each entry."""
    records = []
    for row in layout.rows:
        record: dict[str, object] = {"method": row[0], "lambda": row[1]}
        for column in layout.columns:
            entry, name = layout.at(row, column), " ".join(column)
            record |= {
                name: _round(entry.mean),
                f"{name} std": _round(entry.std),
                f"{name} seeds": entry.n,
            }
        records.append(record)
    return pd.DataFrame(records).to_csv(index=False, lineterminator="\n")


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _text(entry: Sample, planned: int, plus_minus: str) -> str:
    """Write one entry: 47.81 ± 0.09, with the count of seeds where some are missing."""
    if not entry.n:
        return _MISSING
    text = f"{entry.mean:.2f}"
    if not math.isnan(entry.std):
        text += f" {plus_minus} {entry.std:.2f}"
    return text if entry.n == planned else f"{text} ({entry.n}/{planned})"


def _strings(
    layout: Layout, plus_minus: str, bold: Callable[[str], str], method: str
) -> pd.DataFrame:
    """Return one method's rows as text, indexed by lambda."""
    rows = [row for row in layout.rows if row[0] == method]
    table = []
    for row in rows:
        line = []
        for column in layout.columns:
            text = _text(layout.at(row, column), layout.seeds, plus_minus)
            line.append(bold(text) if layout.best(row, column) else text)
        table.append(line)
    return pd.DataFrame(table, index=[f"{lam:g}" for _, lam in rows], columns=layout.columns)


def _markdown(experiment: Experiment, layout: Layout, notes: list[str]) -> str:
    parts = [f"# {_heading(experiment)}"]
    for method in experiment.grid.methods:
        frame = _strings(layout, "±", lambda text: f"**{text}**", method)
        frame.columns = pd.Index(
            [f"{_SHORT[metric]} {_width(name)}" for metric, name in layout.columns]
        )
        frame.index.name = "λ"
        parts += [f"## {METHODS[method].title}", frame.to_markdown(disable_numparse=True)]
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def _latex(experiment: Experiment, layout: Layout, notes: list[str]) -> str:
    lines = [
        rf"\begin{{tabular}}{{l{'c' * len(layout.columns)}}}",
        r"\toprule",
    ]
    widths = experiment.grid.architectures
    heads = [rf"\multicolumn{{{len(widths)}}}{{c}}{{{_escape(_TITLES[m])}}}" for m in METRICS]
    lines.append(" & " + " & ".join(heads) + r" \\")
    lines.append(r"$\lambda$ & " + " & ".join(_width(name) for _, name in layout.columns) + r" \\")
    for method in experiment.grid.methods:
        lines.append(r"\midrule")
        title = _escape(METHODS[method].title)
        lines.append(rf"\multicolumn{{{len(layout.columns) + 1}}}{{c}}{{{title}}} \\")
        frame = _strings(layout, r"$\pm$", lambda text: rf"\textbf{{{text}}}", method)
        for lam, *texts in frame.itertuples():
            lines.append(" & ".join([str(lam), *texts]).replace(_MISSING, "--") + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    comments = [f"% {line}" for line in (_heading(experiment), *notes)]
    return "\n".join([*comments, *lines]) + "\n"


def _heading(experiment: Experiment) -> str:
    number = experiment.name.removeprefix("table")
    models = dict.fromkeys(parse_architecture(a).model for a in experiment.grid.architectures)
    return f"Table {number}. {experiment.title} ({', '.join(models)})"


def _width(architecture: str) -> str:
    shape = parse_architecture(architecture)
    return f"{'w' if shape.family == 'wrn' else 'k'}={shape.width:g}"


def _escape(text: str) -> str:
    return text.replace("%", r"\%").replace("_", r"\_").replace("&", r"\&")
