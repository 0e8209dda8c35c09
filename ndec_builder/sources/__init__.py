"""Where images come from: folders, ground-truth lists and the mini corpus of the package registries."""
