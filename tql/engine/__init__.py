"""Typed plans → row sets and weights, in two tiers that must agree."""
