"""One module per kind of source; each has `find(config, workspace) -> SourceContents`."""
