# make demo: the whole line on the embedded data set, in .venv
# make test: all tests; make lint: style; both in the same .venv
VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint clean

demo: $(INSTALLED)
	$(PYTHON) -m launch.demo --workdir=runs/demo

test: $(INSTALLED)
	$(PYTHON) -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(PYTHON) -m flake8 tfseg configs launch tests
	$(PYTHON) -m isort --check-only tfseg configs launch tests
	$(PYTHON) -m black -l 80 --check -q tfseg configs launch tests

$(INSTALLED): setup.cfg pyproject.toml constraints.txt launch/make_venv.sh
	sh launch/make_venv.sh $(VENV)
	$(PYTHON) -m pip install --quiet -c constraints.txt -e ".[demo,test]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
