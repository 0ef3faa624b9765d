"""The command ``reproduce``."""

from reproduce.cli.app import app, main
from reproduce.cli.examples import examples
from reproduce.cli.inspect import plan, status
from reproduce.cli.lemma import lemma
from reproduce.cli.results import diff, figure, table
from reproduce.cli.work import evaluate, export, prepare, train

for command in (
    plan,
    status,
    prepare,
    train,
    evaluate,
    table,
    diff,
    figure,
    lemma,
    examples,
    export,
):
    app.command()(command)

__all__ = ["app", "main"]
