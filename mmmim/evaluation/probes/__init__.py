"""Probes: fitted to frozen features, and their scores."""
