"""The command ``reproduce``."""

from reproduce.cli.app import app, main
from reproduce.cli.run import doctor, evaluate, examples, export, lemma, prepare, restore, train
from reproduce.cli.share import import_published, publish, verify
from reproduce.cli.show import (
    claims,
    diff,
    figure,
    plan,
    report,
    status,
    table,
    tensorboard,
    write_results,
)

for command in (
    plan,
    status,
    prepare,
    train,
    evaluate,
    restore,
    table,
    diff,
    figure,
    claims,
    lemma,
    examples,
    report,
    export,
    doctor,
    verify,
    publish,
):
    app.command()(command)
app.command("import")(import_published)
app.command("results")(write_results)
app.command()(tensorboard)

__all__ = ["app", "main"]
