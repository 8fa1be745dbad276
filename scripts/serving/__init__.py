"""The parts of serve.py: the batcher of requests, and the HTTP application."""
