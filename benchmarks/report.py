"""Results of the benchmarks as a table.

    python -m benchmarks.report

reads ``results/benchmarks.json``, which ``python3 dev.py bench --json benchmarks/results/benchmarks.json`` writes, and
writes ``results/benchmarks.md``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Result

RESULTS = Path(__file__).parent / "results"
FIGURES = RESULTS / "benchmarks.json"
TABLE = RESULTS / "benchmarks.md"


def store(path: Path, machine: str, results: Sequence[Result]) -> None:
    """Write results to a JSON file, one per line; keep those of other benchmarks that it already contains."""
    measured = {each["case"] for each in results}
    old = load(path)[1] if path.exists() else []
    kept = [each for each in old if each["case"] not in measured]
    lines = ",\n".join(json.dumps(each, ensure_ascii=False) for each in [*kept, *results])
    path.write_text(f'{{"machine": {json.dumps(machine)}, "results": [\n{lines}\n]}}\n', encoding="utf-8")


def load(path: Path = FIGURES) -> tuple[str, list[Result]]:
    """Return the description of the machine and the results in a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["machine"], content["results"]


def content() -> str:
    """Return the content of :data:`TABLE`."""
    machine, results = load()
    return f"# Results of the benchmarks\n\n{machine}\n\n{table(results)}"


if __name__ == "__main__":
    TABLE.write_text(content(), encoding="utf-8")
