"""BERT's graph, its config, and the parts of its layers."""
