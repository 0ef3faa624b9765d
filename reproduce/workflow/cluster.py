"""The rules' questions on behalf of a cluster: how long, how much memory, with which others."""

from functools import cached_property

from reproduce.cells import parse_cell
from reproduce.planning import Speeds, load_speeds, published_architecture
from reproduce.specs import training_spec
from reproduce.workflow.configured import for_rules
from reproduce.workflow.jobs import Jobs
from reproduce.workflow.requests import Work, attack_work, small_work, training_work


class Cluster(Jobs):
    """What jobs ask a cluster for; a single machine has no use for it."""

    @cached_property
    def _speeds(self) -> Speeds:
        return load_speeds(self.config)

    @for_rules
    def training_work(self, cell: str) -> Work:
        """Return what training a cell takes."""
        spec = training_spec(self.config, parse_cell(cell))
        return training_work(self.config, spec, self._speeds, max(1, self.gpus_of(cell)))

    @for_rules
    def evaluation_work(self, **wildcards: str) -> Work:
        """Return what an attack on a checkpoint of a cell takes."""
        cell, spec = parse_cell(wildcards["cell"]), self.evaluation_spec(**wildcards)
        return attack_work(self.config, cell.dataset, cell.architecture, spec, self._speeds)

    @for_rules
    def published_work(self, **wildcards: str) -> Work:
        """Return what an attack on a published checkpoint takes."""
        attack = self.published_attack(**wildcards)
        architecture = published_architecture(attack.name)
        return attack_work(self.config, attack.dataset, architecture, attack.spec, self._speeds)

    @property
    def small_work(self) -> Work:
        """Return what the jobs take that nobody plans: adversarial examples, the lemma."""
        return small_work(self.config)

    def time_limit(self, work: Work, runtime: int) -> str:
        """Return the words by which a job of a cluster ends itself in time; else there are none.

        Parameters
        ----------
        work : Work
            What the job does.
        runtime : int
            Minutes that it has, whoever decided that.
        """
        return f"--max-minutes {work.stops_after(runtime):g}" if self.in_job else ""

    def attacks_together(self, cell: str, **wildcards: str) -> str | None:
        """Return the name of the group of a short attack, one for each run; None for a long one."""
        short = self.evaluation_work(cell=cell, **wildcards).is_short
        return f"attacks-{cell.replace('/', '-')}" if short else None
