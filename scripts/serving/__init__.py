"""The parts of serve.py: what batches requests, and the HTTP application."""
