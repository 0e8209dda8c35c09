"""One module for each kind of source; each has `find(config, workspace) -> Found`."""
