"""The command ``reproduce``."""

from reproduce.cli.app import app, main
from reproduce.cli.bench import bench
from reproduce.cli.claims import claims
from reproduce.cli.data import tensorboard, write_results
from reproduce.cli.doctor import doctor
from reproduce.cli.examples import examples
from reproduce.cli.inspect import plan, status
from reproduce.cli.lemma import lemma
from reproduce.cli.report import report
from reproduce.cli.results import diff, figure, table
from reproduce.cli.share import import_published, publish
from reproduce.cli.verify import verify
from reproduce.cli.work import evaluate, export, prepare, restore, train

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
    bench,
    doctor,
    verify,
    publish,
):
    app.command()(command)
app.command("import")(import_published)
app.command("results")(write_results)
app.command()(tensorboard)

__all__ = ["app", "main"]
