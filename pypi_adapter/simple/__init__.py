"""Pure: simple index pages as a model, parsed and rendered."""
