# The commands of the README, and the commands of a developer. All of them install into .venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO := out/demo

.PHONY: demo test test-all lint docs bench clean

demo: .venv/core.stamp  ## train the U-Net on synthetic nuclei for one to two minutes, score it, draw figures
	$(BIN)/python examples/segmentation/unet_nuclei.py train --data synthetic --epochs 6 --crops 800 --loss bce+dice \
		--average 0.99 --lr 0.002 --out $(DEMO)
	$(BIN)/python examples/segmentation/unet_nuclei.py evaluate --data synthetic --weights $(DEMO)/best.npz --no-flips \
		--out $(DEMO)

test: .venv/test.stamp  ## the quick tests, five to eleven minutes on two cores
	$(BIN)/python -m pytest -n 2

test-all: .venv/test.stamp  ## all tests, the long ones too
	$(BIN)/python -m pytest -n 2 -m "slow or not slow"

lint: .venv/test.stamp  ## style, the contract of imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: .venv/docs.stamp  ## the site: documents, operations, exercises, scripts, pages to touch, reference; out/site/html
	$(BIN)/python docs/book/build.py

bench: .venv/bench.stamp  ## a training step of the U-Net beside PyTorch, Keras and textbook NumPy (installs them)
	$(BIN)/python -m tinynet bench unet --against torch,torch-tuned,keras,textbook --json out/bench.json \
		--chart out/bench.png

clean:
	rm -rf .venv out build dist *.egg-info

.venv/core.stamp: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/test.stamp: .venv/core.stamp
	$(BIN)/python -m pip install --quiet --editable ".[test,examples]"
	touch $@

.venv/docs.stamp: .venv/core.stamp
	$(BIN)/python -m pip install --quiet --editable ".[docs,examples]"
	touch $@

.venv/bench.stamp: .venv/core.stamp
	$(BIN)/python -m pip install --quiet --editable ".[bench]"
	touch $@
