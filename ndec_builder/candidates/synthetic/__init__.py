"""Pairs with known labels, made from the user's images, to learn pre-labels from."""
