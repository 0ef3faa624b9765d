"""The identity robust = correct and stable, image by image."""

from collections.abc import Mapping

from scipy import stats

from reproduce.analysis.statistics import holm
from reproduce.claims.claim import Effect, Finding, Verdict
from reproduce.claims.comparison import SIGNIFICANCE
from reproduce.claims.evidence import Evidence
from reproduce.claims.words import counted
from reproduce.experiments import experiment_names, find_experiment
from reproduce.records import Metrics, Record

# images that a record may have against the identity, in percent
LIMIT = 0.1


def identity(evidence: Evidence) -> Finding:
    """Test that an image is robust exactly if it is right and stable (equation 3.1).

    Of the worst x' of a ball that is so by definition.  An attack only finds some x', and
    the identity breaks where it turned a wrong prediction into a right one.  Counted in
    every record of an attack that left no image alone.  The claim fails if a record has
    significantly more than `LIMIT` (Holm, 5 % for all records together): of a few hundred
    images a single one is more, and says nothing.
    """
    found = _planned(evidence)
    records = {
        name: record.metrics
        for name, record in found.items()
        if isinstance(record, Record) and record.info["every_image"]
    }
    missing = tuple(reason for reason in found.values() if isinstance(reason, str))
    if not records:
        return Finding(
            "too little data", "There is no record that can tell.", "images", (), missing
        )
    verdict: Verdict = "holds"
    if any(holm([_p_within(metrics) for metrics in records.values()], SIGNIFICANCE)):
        verdict = "fails"
    elif max(map(_share, records.values())) > LIMIT:
        verdict = "too little data"
    effect, summary = _in_words(records)
    if missing:
        summary += f" {counted(len(missing), 'planned record')} cannot be read yet."
    return Finding(verdict, summary, "images", (effect,), missing)


def _planned(evidence: Evidence) -> dict[str, Record | str]:
    """Return every record of the configuration by its name, or why it is not there."""
    experiments = [
        find_experiment(evidence.config, name) for name in experiment_names(evidence.config)
    ]
    items = dict.fromkeys(item for one in experiments for item in one.evaluations)
    published = dict.fromkeys(item for one in experiments for item in one.published)
    found = {
        f"{i.attack} with seed {i.seed} on {i.cell}, {i.checkpoint}": evidence.record(i)
        for i in items
    }
    return found | {
        f"{i.attack} with seed {i.seed} on {i.name}": evidence.published(i) for i in published
    }


def _in_words(records: Mapping[str, Metrics]) -> tuple[Effect, str]:
    """Return the effect and the summary of records that can tell."""
    images = sum(metrics.images for metrics in records.values())
    broken = sum(metrics.recovered for metrics in records.values())
    worst = max(records, key=lambda name: _share(records[name]))
    share = _share(records[worst])
    effect = Effect(
        "largest share of images against the identity in a record",
        share,
        unit="% of images",
        threshold=LIMIT,
        images=images,
        detail=f"{worst if broken else 'none has any'}; over all records {broken:,} of "
        f"{images:,} attacked images; must be {LIMIT} % or below",
    )
    summary = (
        f"It holds for {images - broken:,} of {images:,} attacked images in "
        f"{counted(len(records), 'record')}."
    )
    if broken:
        summary += f" Most exceptions: {share:.2f} % ({worst}); {LIMIT} % are allowed."
    return effect, summary


def _share(metrics: Metrics) -> float:
    return 100 * metrics.recovered / metrics.images


def _p_within(metrics: Metrics) -> float:
    """Return the p of a one-sided test that no more than `LIMIT` of all images are such."""
    test = stats.binomtest(metrics.recovered, metrics.images, LIMIT / 100, alternative="greater")
    return float(test.pvalue)
