"""From a dataset and a model to scored pairs."""
