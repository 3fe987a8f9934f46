"""Leadline: xAI's API and console, self-hosted, over the models that its owner runs."""

__version__ = "0.1.0"
