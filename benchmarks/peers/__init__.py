"""The schedulers that are measured, a file each; `contender(name, settings)` makes one."""
