"""Pages for people about Python package indexes: projects, captures, rules, registries."""
