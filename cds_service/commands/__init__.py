"""The `riskcards` commands, one to a module, each defining `command`; `cds_service.cli` names their modules."""
