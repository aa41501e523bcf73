"""Runs benchmarks, prints each table and writes them as one page.

    python -m tests.benchmarks [NAME ...] [--quick] [--log FILE] [--out PAGE]

Without names all of them run and docs/performance.md is written; with names the page is written where --out says.
"""

import argparse
import importlib
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from rich.console import Console

from search.records import provenance
from tests.benchmarks.frame import Settings, Table, markdown, terminal

BENCHMARKS = {  # name -> module of this folder and its function
    "training": ("training", "training"),
    "trial": ("trial", "trial"),
    "share": ("share", "share"),
    "items": ("scaling", "items"),
    "interactions": ("scaling", "interactions"),
    "throughput": ("throughput", "throughput"),
    "pacing": ("pacing", "pacing"),
    "scaling": ("raylets", "scaling"),
    "parts": ("driver", "parts"),
    "cost": ("cost", "cost"),
    "peak": ("peak", "peak"),
    "together": ("together", "together"),
    "serving": ("serving", "serving"),
    "serving_state": ("serving_state", "serving_state"),
    "gpu": ("gpu", "gpu"),
    "gpu_shared": ("gpu", "gpu_shared"),
    "gpu_peak": ("gpu", "gpu_peak"),
}
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "performance.md"
LOG = ROOT.parent / "shared" / "data" / "amazon-video-games.inter.gz"


def main() -> int:
    arguments = _parse()
    names = arguments.name or list(BENCHMARKS)
    page = arguments.out or (None if arguments.name or arguments.quick else PAGE)
    settings = Settings(arguments.quick, arguments.log or _default_log(arguments.quick))
    torch.set_num_threads(1)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)
    tables: list[Table] = []
    failed = []
    for name in names:
        console.print(f"{name} ...", style="dim")
        try:
            tables.append(_run(name, settings))
        except Exception as error:  # one failure must not cost the hours of the other benchmarks
            console.print_exception()
            failed.append(name)
            tables.append(Table(name, f"Failed: {type(error).__name__}: {error}", ["nothing was measured"], []))
        console.print(terminal(tables[-1]), tables[-1].about, "", sep="\n")
        if page:
            _write(page, settings, tables)
    if page:
        console.print(f"written: {page}")
    return 1 if failed else 0


def _run(name: str, settings: Settings) -> Table:
    module, function = BENCHMARKS[name]
    path = f"{__package__}.{module}"
    try:
        found = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise FileNotFoundError(
            f"the benchmark {name!r} needs tests/benchmarks/{module}.py, which is missing"
        ) from None
    return getattr(found, function)(settings)


def _write(page: Path, settings: Settings, tables: Iterable[Table]) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_head(settings) + "\n" + "\n".join(markdown(table) for table in tables))


def _head(settings: Settings) -> str:
    hardware, code = provenance.hardware(), provenance.git(Path(provenance.__file__).parent)
    commit = (code["commit"] or "unknown")[:12] + (", with uncommitted changes" if code["dirty"] else "")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "ray", "numpy", "pandas"))
    gpus = ", ".join(hardware["gpus"]) or "none"
    source = settings.log.name if settings.log else "the embedded simulated data"
    return f"""# Performance

`make bench` measures everything again and replaces this page. Times are medians of interleaved runs, ratios are medians
of pairs with their range. A machine's speed drifts, so numbers from different runs cannot be compared. torch computes
with one thread unless a table says otherwise.

- command: `{provenance.command().replace(".__main__", "")}`
- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC
- commit: {commit}
- hardware: {hardware["cpu"]}, {hardware["cores"]} cores, {hardware["memory_gib"]} GiB; GPU: {gpus}
- versions: Python {sys.version.split()[0]}, {versions}
- data: {source}{", quick sizes" if settings.quick else ""}
"""


def _default_log(quick: bool) -> Path | None:
    return LOG if LOG.exists() and not quick else None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all without names")
    parser.add_argument("--quick", action="store_true", help="smallest sizes, to check that everything runs")
    parser.add_argument("--log", type=Path, metavar="FILE", help="interaction log instead of Amazon Video Games")
    parser.add_argument("--out", type=Path, metavar="PAGE", help="Markdown page to write")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.name) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; expected names of {', '.join(BENCHMARKS)}")
    if arguments.log and not arguments.log.is_file():
        parser.error(f"--log {arguments.log}: no such file")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
