"""How good a router is: metrics, baselines, and reports with intervals."""
