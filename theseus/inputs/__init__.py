"""From files of texts to padded batches."""
