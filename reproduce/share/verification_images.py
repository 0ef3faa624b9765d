"""The prepared images, where this machine has them: what records are held against."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reproduce.config.schema import Config
from reproduce.core.errors import HarnessError
from reproduce.experiments import paths


class Images:
    """Prepared data sets by name, each read once.

    Parameters
    ----------
    config : Config
        Says where they lie.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._labels: dict[str, tuple[str, NDArray[np.integer]] | HarnessError] = {}

    def file(self, dataset: str) -> Path:
        """Return where a prepared data set lies."""
        return paths.prepared_file(self._config, dataset)

    def labels(self, dataset: str) -> tuple[str, NDArray[np.integer]]:
        """Return the checksum of a data set, and the labels of its test images.

        Raises
        ------
        HarnessError
            If it is not prepared here, or damaged.
        """
        if dataset not in self._labels:
            self._labels[dataset] = self._read(dataset)
        found = self._labels[dataset]
        if isinstance(found, HarnessError):
            raise found
        return found

    def _read(self, dataset: str) -> tuple[str, NDArray[np.integer]] | HarnessError:
        path = self.file(dataset)
        if not path.is_file():
            return HarnessError(f"{dataset} is not prepared here (`reproduce prepare {dataset}`)")
        from reproduce.data.sources import load_prepared

        try:
            found = load_prepared(path)
        except HarnessError as error:
            return error
        return found.sha256, np.asarray(found.test.labels)
