"""Published checkpoints, attacked where they can be had; where not, a file says why."""

from collections.abc import Callable

from reproduce.config import Config
from reproduce.errors import HarnessError
from reproduce.evaluation.run import evaluate_model
from reproduce.models import ModelSource
from reproduce.outcomes import PublishedAttack
from reproduce.records import Record
from reproduce.zoo import ZooCheckpoint


def evaluate_published(
    config: Config,
    checkpoint: ZooCheckpoint,
    attack: str,
    seed: int,
    *,
    optional: bool = False,
    say: Callable[[str], None] = print,
) -> Record | None:
    """Attack a published checkpoint and write the record, or return the one there is.

    What came of it, a record or the reason why there is none, also goes into a small
    file that tables read.

    Parameters
    ----------
    config : Config
        The configuration.
    checkpoint : ZooCheckpoint
        The checkpoint; downloaded where the configuration allows it.
    attack : str
        Name of an attack of the configuration.
    seed : int
        Seed of the attack's random start.
    optional : bool
        Whether a checkpoint that cannot be had is no error.
    say : callable
        Told the outcome.

    Returns
    -------
    Record or None
        None if the checkpoint cannot be had, and `optional`.

    Raises
    ------
    Stopped
        If `machine.max_minutes` are over before all images are attacked.
    HarnessError
        If the checkpoint cannot be had, unless `optional`, or the evaluation fails.
    """
    published = PublishedAttack(config, checkpoint.dataset, checkpoint.name, attack, seed)
    attempt = published.attempt()
    source = ModelSource(checkpoint.dataset, zoo=checkpoint)
    try:
        checkpoint.obtain(download=config.data.zoo_download, say=say)
        found = published.checkpoint()
        # a file for another network is as good as none
        source.load()
    except HarnessError as error:
        published.keep_failure(attempt, str(error), missing=_lacks_files(checkpoint))
        if not optional:
            raise
        say(f"{checkpoint.name} cannot be had: {error}")
        return None
    record = evaluate_model(config, source, attack, seed, say)
    published.keep(attempt, found, record.info["model_sha256"])
    return record


def _lacks_files(checkpoint: ZooCheckpoint) -> bool:
    """Say whether a file is missing of a checkpoint whose files are known."""
    try:
        return not all(path.is_file() for path in checkpoint.files())
    except HarnessError:
        return False
