"""Compares a Hugging Face BERT's vectors here with those of transformers.

    pip install torch transformers
    python scripts/dev/check_hugging_face.py FOLDER

The exit status is 1 if they differ by more than rounding.
"""

import argparse
import sys

import numpy as np
import tensorflow.compat.v1 as tf

import modeling_theseus
from theseus.checkpoints import pretrained
from theseus.checkpoints import weights as weights_lib
from theseus.errors import UserError
from theseus.session import new_session, set_up_tensorflow

_TOLERANCE = 1e-3


def make_features(config):
    """Returns random pairs of three lengths as features: int32 [3, 12] arrays by name."""
    random = np.random.RandomState(0)
    mask = np.arange(12) < np.array([12, 7, 5])[:, np.newaxis]
    return {
        "input_ids": random.randint(0, config.vocab_size, mask.shape) * mask,
        "input_mask": mask.astype(np.int32),
        "segment_ids": (np.arange(12) >= 4) * mask.astype(np.int32),
    }


def vectors_here(folder, config, arrays):
    """Returns this program's encoder output, float32 [3, 12, H]; prints the weights' report."""
    found = weights_lib.open_weights(weights_lib.find_checkpoint(folder))
    with new_session() as session:
        features = modeling_theseus.feature_placeholders()
        model = modeling_theseus.BertModel(
            config, False, features["input_ids"], features["input_mask"], features["segment_ids"]
        )
        variables = tf.trainable_variables()
        names = [variable.op.name for variable in variables]
        sources = modeling_theseus.assign_sources(names, found)
        matched = weights_lib.match(variables, found, sources)
        print(weights_lib.report(matched, found))
        weights_lib.load(session, variables, found, sources)
        feed = modeling_theseus.feed_features(features, arrays)
        return session.run(model.get_sequence_output(), feed)


def vectors_there(folder, arrays):
    """Returns the encoder output of transformers, float32 [3, 12, H]."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).float().eval()
    tensors = {name: torch.tensor(array, dtype=torch.long) for name, array in arrays.items()}
    with torch.no_grad():
        output = model(
            input_ids=tensors["input_ids"],
            attention_mask=tensors["input_mask"],
            token_type_ids=tensors["segment_ids"],
        )
    return output.last_hidden_state.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="a folder, or a hub id, as for --bert_pretrained_model")
    set_up_tensorflow()
    try:
        folder = pretrained.local_folder(parser.parse_args().folder)
        config = pretrained.read_config(folder)
        arrays = make_features(config)
        here = vectors_here(folder, config, arrays)
    except UserError as error:
        sys.exit("check_hugging_face.py: %s" % error)
    is_token = arrays["input_mask"].astype(bool)
    difference = np.abs(here - vectors_there(folder, arrays))[is_token].max()
    print("largest difference %.1e, of values up to %.1f" % (difference, np.abs(here).max()))
    sys.exit(int(difference > _TOLERANCE))


if __name__ == "__main__":
    main()
