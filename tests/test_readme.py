"""Everything the README shows in Python is run, in one go, in the order it stands there."""

import re
import subprocess
import sys

from shared_router.data.dataset import RoutingDataset
from shared_router.data.schema import Outcome, RoutingRecord
from tests.material import known_truth


def _with_responses(data):
    def answered(name, outcome, cost_usd):
        response = (f"{name} answers",)
        return f"{name}-model", Outcome(
            quality=outcome.quality, response=response, cost_usd=cost_usd
        )

    def three(record):
        """Small and large as they are, and a medium one that is right as often as either."""
        small, large = record.outcomes["small"], record.outcomes["large"]
        medium = large if int(record.id.rsplit("-", 1)[1]) % 3 else small
        each = {"small": (small, 0.001), "medium": (medium, 0.004), "large": (large, 0.01)}
        return dict(answered(name, *outcome) for name, outcome in each.items())

    return [
        RoutingRecord(**record.model_dump(exclude={"outcomes"}), outcomes=three(record))
        for record in data
    ]


def test_readme_python_runs(repository, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    records = _with_responses(known_truth(120)) + _with_responses(
        known_truth(60, split="validation", seed=1)
    )
    RoutingDataset(tuple(records)).save(tmp_path / "outcomes.jsonl.gz")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # So few queries promise no 2 %: what the README's limit then does is shown.
    assert re.search(r"^large-model \(no_promise\), dial max_quality_drop=0\.02", ran.stdout, re.M)
    assert (tmp_path / "my-router" / "README.md").is_file()
    assert "None unknown_task" in ran.stdout
    assert re.search(r"^(reuse|recalibrate|retrain)$", ran.stdout, re.MULTILINE)
