"""Jobs that compute: what they need, how they are started, what makes them run again."""

from pathlib import Path

from reproduce import paths
from reproduce.catalogue import EXTRA, dataset_facts
from reproduce.cells import parse_cell
from reproduce.errors import HarnessError
from reproduce.outcomes import PublishedAttack
from reproduce.specs import (
    EvaluationSpec,
    evaluation_spec,
    thin_cell,
    training_spec,
)
from reproduce.workflow.configured import Configured, for_rules


class Jobs(Configured):
    """Preparing, training, evaluating."""

    def source(self, name: str) -> str:
        """Return where images come from; another source prepares them again."""
        if name in EXTRA:
            return str(paths.extra_source(self.config.data, name))
        return str(getattr(self.config.data, name, "embedded"))

    @for_rules
    def gpus_of(self, cell: str) -> int:
        """Return how many GPUs train one network; several share batches of image files."""
        several = self._decodes(parse_cell(cell).dataset)
        return self.gpus * (self.config.machine.gpus_per_cell if several else 1)

    @for_rules
    def launcher(self, cell: str) -> str:
        """Return what starts the training of one network, on as many GPUs as it has."""
        count = self.gpus_of(cell)
        several = f"torch.distributed.run --standalone --nproc-per-node {count} -m "
        return f"python -m {several if count > 1 else ''}reproduce"

    @for_rules
    def training_threads(self, cell: str) -> int:
        """Return how many threads a training run keeps busy, those that decode files included."""
        machine, processes = self.config.machine, max(1, self.gpus_of(cell))
        decoding = machine.loaders if self._decodes(parse_cell(cell).dataset) else 0
        return processes * (machine.threads + decoding)

    @for_rules
    def evaluation_threads(self, dataset: str) -> int:
        """Return how many threads an evaluation keeps busy; it decodes files, then attacks."""
        machine = self.config.machine
        decoding = machine.loaders if self._decodes(dataset) else 0
        return machine.processes * max(machine.threads, decoding)

    def _decodes(self, dataset: str) -> bool:
        return dataset_facts(dataset).storage == "folder"

    @for_rules
    def trained_first(self, cell: str) -> list[Path]:
        """Return the traces of the runs that a cell's training measures something from."""
        thin = thin_cell(self.config, parse_cell(cell))
        return [] if thin is None else [paths.trace_file(self.cells / thin.id)]

    @for_rules
    def extra_images(self, cell: str) -> list[Path]:
        """Return the prepared extra images of a cell, if it is trained with some."""
        extra = training_spec(self.config, parse_cell(cell)).extra
        return [] if extra is None else [paths.prepared_file(self.config, extra.name)]

    def extra_manifest(self, cell: str) -> list[Path]:
        """Return the small file that changes exactly when the extra images do."""
        return [path.with_suffix(".json") for path in self.extra_images(cell)]

    @for_rules
    def attacked_weights(self, cell: str, choice: str) -> Path:
        """Return the weights of the checkpoint that wildcards name."""
        return self.weights(parse_cell(cell), paths.checkpoint_of(choice))

    def published_attack(self, dataset: str, zoo: str, attack: str, seed: str) -> PublishedAttack:
        """Return the attack on a published checkpoint that wildcards name."""
        return PublishedAttack(self.config, dataset, zoo, self.attack(attack), int(seed))

    @for_rules
    def published_digest(self, **wildcards: str) -> str:
        """Return what changes exactly when a setting that touches such an attack does."""
        return self.published_attack(**wildcards).spec.digest

    @for_rules
    def published_attempt(self, **wildcards: str) -> int:
        """Return what changes when attacking a published checkpoint is worth another try."""
        return self.published_attack(**wildcards).attempt()

    @for_rules
    def training_digest(self, cell: str) -> str:
        """Return what changes exactly when a setting that touches this cell does."""
        return training_spec(self.config, parse_cell(cell)).digest

    @for_rules
    def evaluation_digest(self, cell: str, choice: str, attack: str, seed: str) -> str:
        """Return what changes exactly when a setting that touches this evaluation does."""
        return self.evaluation_spec(cell, choice, attack, seed).digest

    def evaluation_spec(self, cell: str, choice: str, attack: str, seed: str) -> EvaluationSpec:
        """Return every setting of the attack on a checkpoint of a cell that wildcards name."""
        checkpoint, name = paths.checkpoint_of(choice), self.attack(attack)
        return evaluation_spec(self.config, parse_cell(cell), name, int(seed), checkpoint)

    @for_rules
    def attack(self, label: str) -> str:
        """Return the attack whose records go by a label."""
        names = [name for name in self.config.eval.attacks if self.config.eval.label(name) == label]
        if not names:
            known = ", ".join(map(self.config.eval.label, self.config.eval.attacks))
            raise HarnessError(f"unknown attack {label!r}; the configuration has: {known}")
        return names[0]
