"""A harness that regenerates the results of Wu et al., NeurIPS 2021.

*Do Wider Neural Networks Really Help Adversarial Robustness?*  From Python, `load_config`,
`train`, `evaluate`, `load_results`, `make_table`, `diff` and `judge_claims` do what the
commands of ``reproduce --help`` do.  ``docs/design.md`` says how the package is laid out.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reproduce.api import (
        diff,
        evaluate,
        judge_claims,
        load_config,
        load_results,
        make_table,
        train,
    )

__version__ = "0.2.0"
__all__ = [
    "diff",
    "evaluate",
    "judge_claims",
    "load_config",
    "load_results",
    "make_table",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a function of the API when it is first used, so that the commands start fast."""
    if name not in __all__:
        raise AttributeError(f"module 'reproduce' has no attribute {name!r}")
    from reproduce import api

    return getattr(api, name)
