"""Weights and BERTs that come from outside."""
