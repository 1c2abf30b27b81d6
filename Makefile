# Every target is one exec of tools/dev.py, which needs Python 3.11 and nothing else; see there.
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help tools up load down demo first-user test browser lint images bench bench-api bench-wake bench-chat bench-router clean

help tools up load down demo first-user test browser lint images bench bench-api bench-wake bench-chat bench-router clean:
	@exec $(PYTHON) tools/dev.py $@
