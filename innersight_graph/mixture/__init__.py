"""Mixtures of binary features: starts, float64 winners, the choice of their number, and estimators."""
