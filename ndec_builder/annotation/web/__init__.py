"""The pages and pictures that annotators see: image server, overlays, guideline."""
