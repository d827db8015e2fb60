"""One module per command; each defines `command`. `cds_service.cli` imports a module only when its command runs."""
