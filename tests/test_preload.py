"""Jobs that are forks of one preloaded process behave as if they were started by themselves."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

# one preloaded process for all that is asked
SCRIPT = """
import json, os, socket, subprocess, sys

COMMAND = [sys.executable, "-m", "reproduce"]

def run(*words, **more):
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, **more)
    return done.returncode, done.stdout, done.stderr

# one that asked, and died before it was answered
with socket.socket(socket.AF_UNIX) as asker:
    asker.connect(os.environ["REPRODUCE_PRELOADED"])
settings = json.dumps({"preset": "demo", "results": "here"})
found = {
    "version": run("--version"),
    "error": run("table", "nope", "--preset", "demo"),
    "place": run("claims", cwd=sys.argv[1], env=os.environ | {"REPRODUCE_CONFIG": settings}),
}
watch = [*COMMAND, "status", "table1", "--preset", "demo", "--watch", "--every", "600"]
started = subprocess.Popen(watch, stdout=subprocess.PIPE)
started.stdout.readline()
started.terminate()
found["stopped"] = started.wait(60)
print(json.dumps(found))
sys.exit(7)
"""


def test_jobs_of_a_preloaded_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reproduce.workflow.preload", sys.executable, "-c", SCRIPT]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    found = json.loads(done.stdout)
    assert found["version"] == [0, f"reproduce {version('reproduce')}\n", ""]
    status, _, said = found["error"]
    assert status == 1
    assert "unknown table 'nope'" in said
    assert found["place"][0] == 0, found["place"]
    assert (tmp_path / "here" / "demo" / "claims.json").is_file()
    assert found["stopped"] != 0
