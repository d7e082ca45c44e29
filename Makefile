.PHONY: check fmt pins bench

check: ## every check, as CI runs them
	.ci/run

fmt: ## write the code as ruff wants it
	uv run ruff check --fix
	uv run ruff format

pins: ## renew the exact pins in pyproject.toml
	python3 .ci/pins

bench: ## measure; the tests leave this out
	uv run pytest tests/bench/*.py --override-ini=addopts=--import-mode=importlib --benchmark-only -s
