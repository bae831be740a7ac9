"""Speed, measured side by side; figures go to bench/results.json."""
