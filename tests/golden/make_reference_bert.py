"""Writes reference_bert.npz: a small BERT's logits and gradients, by Hugging Face transformers.

    pip install torch transformers numpy
    python tests/golden/make_reference_bert.py

The weights are random, under google-research/bert's names: a predecessor of 4 layers, and
2 successor layers. For both forms of GELU and for each of the 4 paths through the 2
modules, a transformers BertForSequenceClassification is put together from the layers on
the path; its logits, loss and gradients are kept.
"""

import itertools
import os

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

GROUPS = [[0, 1], [2, 3]]
ACTIVATIONS = {"gelu_erf": "gelu", "gelu_tanh": "gelu_new"}
SHAPE = dict(
    vocab_size=30,
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=12,
    type_vocab_size=2,
)


def make_model(num_layers, activation="gelu"):
    config = BertConfig(
        hidden_act=activation,
        attn_implementation="eager",
        num_labels=2,
        **dict(SHAPE, num_hidden_layers=num_layers),
    )
    return BertForSequenceClassification(config).eval()


def tf_name(name):
    """Renames a parameter of transformers as google-research/bert names it."""
    if name.startswith("classifier"):
        return "output_weights" if name.endswith("weight") else "output_bias"
    name = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
    name = name.replace("LayerNorm/weight", "LayerNorm/gamma").replace(
        "LayerNorm/bias", "LayerNorm/beta"
    )
    name = name.replace("_embeddings/weight", "_embeddings")
    return name[: -len("weight")] + "kernel" if name.endswith("/weight") else name


def to_tf(name, tensor):
    """Transposes the kernels of dense layers: torch keeps them as [out, in]."""
    array = tensor.detach().numpy()
    return array.T if tf_name(name).endswith("/kernel") else array


def random_weights(generator):
    """Returns weights with large values, so that every term of the graph matters."""
    weights = {}
    for name, parameter in make_model(6).named_parameters():
        values = generator.normal(0.0, 0.4, tuple(parameter.shape)).astype(np.float32)
        weights[name] = values + (1.0 if name.endswith("LayerNorm.weight") else 0.0)
    return weights


def layers_on_path(path):
    """Returns layer numbers; the successor's two are kept as layers 4 and 5."""
    chosen = [[4 + module] if replaced else GROUPS[module] for module, replaced in enumerate(path)]
    return sum(chosen, [])


def on_path(name, layers):
    """Returns the name that a parameter of the path's model has among the weights."""
    parts = name.split(".")
    if "layer" in parts:
        parts[3] = str(layers[int(parts[3])])
    return ".".join(parts)


def theseus_name(name):
    """Names layers 4 and 5 as the successor's."""
    name = tf_name(name)
    return name.replace("/layer_4/", "/suc_layer_0/").replace("/layer_5/", "/suc_layer_1/")


def main():
    generator = np.random.RandomState(20200207)
    weights = random_weights(generator)
    lengths = np.array([12, 7, 5])
    is_token = np.arange(12) < lengths[:, None]
    features = {
        "input_ids": generator.randint(1, 30, (3, 12)) * is_token,
        "input_mask": is_token.astype(np.int64),
        "segment_ids": (np.arange(12) >= 4) * is_token.astype(np.int64),
        "label_ids": np.array([1, 0, 1]),
    }
    arrays = {"features/" + name: array.astype(np.int32) for name, array in features.items()}
    for name, value in weights.items():
        arrays["weights/" + theseus_name(name)] = to_tf(name, torch.tensor(value))

    paths = itertools.product([False, True], repeat=len(GROUPS))
    for (form, activation), path in itertools.product(ACTIVATIONS.items(), list(paths)):
        layers = layers_on_path(path)
        model = make_model(len(layers), activation)
        model.load_state_dict(
            {
                name: torch.tensor(weights[on_path(name, layers)])
                for name, _ in model.named_parameters()
            },
            strict=False,
        )
        output = model(
            input_ids=torch.tensor(features["input_ids"]),
            attention_mask=torch.tensor(features["input_mask"]),
            token_type_ids=torch.tensor(features["segment_ids"]),
            labels=torch.tensor(features["label_ids"]),
        )
        output.loss.backward()
        key = "%s/%s/" % (form, "".join(str(int(replaced)) for replaced in path))
        arrays[key + "logits"] = output.logits.detach().numpy()
        arrays[key + "loss"] = output.loss.detach().numpy()
        for name, parameter in model.named_parameters():
            arrays[key + "gradients/" + theseus_name(on_path(name, layers))] = to_tf(
                name, parameter.grad
            )

    np.savez_compressed(
        os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference_bert.npz"), **arrays
    )


if __name__ == "__main__":
    main()
