"""The model's parts that know nothing of BERT's graph."""
