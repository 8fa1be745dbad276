"""Writes bert/bert_model.ckpt, of random weights, for the bert/bert_config.json that is there."""

import tensorflow.compat.v1 as tf

import modeling_theseus
from theseus.session import set_up_tensorflow


def main():
    """Writes it in the folder where the program runs."""
    set_up_tensorflow()
    tf.set_random_seed(7)
    config = modeling_theseus.BertConfig.from_json_file("bert/bert_config.json")
    modeling_theseus.BertModel(config, False, tf.placeholder(tf.int32, [None, None]))
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, "bert/bert_model.ckpt", write_state=False)


if __name__ == "__main__":
    main()
