"""`python -m search.track` copies files to a store; it must not wait for torch."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from search.records.records import Records
from search.records.trials_table import METRICS

ROOT = Path(__file__).parents[3]
CODE = (
    "import runpy, sys\n"
    "try: runpy.run_module('search.track', run_name='__main__', alter_sys=True)\n"
    "finally: print('imported:', *{'torch', 'ray', 'optuna'} & sys.modules.keys())"
)


def test_tracking_a_search_imports_no_torch(tmp_path: Path, empty_store: bytes) -> None:
    """From the first import to the last run that is written."""
    out = tmp_path / "out"
    out.mkdir()
    records = Records(out)
    records.begin({})
    records.started(0, {"top_k": 5})
    records.finished(0, dict.fromkeys(METRICS, 0.5), {})
    (out / "spec.yaml").write_text(yaml.safe_dump({"name": "made-up"}))
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    command = [sys.executable, "-c", CODE, str(out)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "runs created" in done.stdout
    assert done.stdout.endswith("imported:\n")
