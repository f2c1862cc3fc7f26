# make run: the main job; make daily: its sibling with images and sound; make test: the whole test suite. Both set up what they need in .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install run daily examples test bench clean

help:
	@echo "make install  set up .venv"
	@echo "make run      LLMInterest beside baselines on ml-100k"
	@echo "make daily    text, images and sound, on a data set made here"
	@echo "make examples a video list, ads and replies, on data sets made here"
	@echo "make test     the whole test suite"
	@echo "make bench    the short benchmarks"
	@echo "make clean    remove .venv and what runs wrote"

install: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[content,index,tune,export,test]'
	@touch $(INSTALLED)

run: install
	$(BIN)/python run_recbole.py --model=LLMInterest,FPMC,Pop --dataset=ml-100k --stopping_step=5

daily: install
	$(BIN)/python data/make_daily.py
	$(BIN)/python run_recbole.py --model=LLMInterest,FPMC,Pop --dataset=daily --data_path=data

examples: install
	$(BIN)/python examples/videos.py
	$(BIN)/python examples/ads.py
	$(BIN)/python examples/replies.py

test: install
	$(BIN)/python -m pytest

bench: install
	$(BIN)/python benchmarks/epoch_time.py --baseline=GRU4Rec
	$(BIN)/python benchmarks/epoch_time.py --baseline=SASRec --batches=4 --repeats=3
	$(BIN)/python benchmarks/step_efficiency.py --threads=1
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/loss_memory.py --targets=256

clean:
	rm -rf .venv saved log build *.egg-info
