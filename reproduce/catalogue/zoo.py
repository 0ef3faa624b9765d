"""Ids of RobustBench's models, which become names of files and folders."""

import re

from reproduce.errors import HarnessError, brief

ZOO_ID = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


def check_zoo_id(name: str) -> str:
    """Refuse what is no id of a model, and so might lie anywhere.

    Raises
    ------
    HarnessError
        Saying what an id is.
    """
    if re.fullmatch(ZOO_ID, name) is None:
        raise HarnessError(
            f"{brief(name)} is no model id: expected letters, digits, '_', '-' and '.', "
            "such as Wu2020Do"
        )
    return name
