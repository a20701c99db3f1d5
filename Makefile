.PHONY: help
help:
	@echo "targets: to come"
