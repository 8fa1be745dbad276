"""Logits, metrics and predictions."""
