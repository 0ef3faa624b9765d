"""The configuration: one validated model, filled from a preset and the user's config.yaml."""

from reproduce.config.config import Config
from reproduce.config.evaluation import (
    PGD,
    Attack,
    AttackPackage,
    AutoAttack,
    Eval,
    FABAttack,
    PGDAttack,
    SquareAttack,
)
from reproduce.config.experiments import (
    AttackTable,
    ComparisonTable,
    Curves,
    Experiments,
    Grid,
    TuningTable,
)
from reproduce.config.fields import PRESETS, Checkpoint, PresetName
from reproduce.config.lemma import Lemma
from reproduce.config.machine import Data, Machine
from reproduce.config.merge import flatten, merge
from reproduce.config.methods import AWP, WAR, Mixed
from reproduce.config.phases import Phase
from reproduce.config.training import Precision, Train, TrainingAttack, Validation

__all__ = [
    "AWP",
    "PGD",
    "PRESETS",
    "WAR",
    "Attack",
    "AttackPackage",
    "AttackTable",
    "AutoAttack",
    "Checkpoint",
    "ComparisonTable",
    "Config",
    "Curves",
    "Data",
    "Eval",
    "Experiments",
    "FABAttack",
    "Grid",
    "Lemma",
    "Machine",
    "Mixed",
    "PGDAttack",
    "Phase",
    "Precision",
    "PresetName",
    "SquareAttack",
    "Train",
    "TrainingAttack",
    "TuningTable",
    "Validation",
    "flatten",
    "merge",
]
