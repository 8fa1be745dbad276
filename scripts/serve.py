"""Serves a trained model over HTTP.

    python scripts/serve.py out_2 [--host=127.0.0.1] [--port=8000]
    curl -d '{"text_a": "手机坏了", "text_b": "手机坏了怎么办"}' http://127.0.0.1:8000/classify

The argument is a stage's output folder or an export's. /classify takes one example or a list,
/healthz describes the model, /metrics is for Prometheus, and / is a page for trying it. Examples of
simultaneous requests are computed together, grouped by length. On SIGTERM it refuses new requests,
answers the pending ones, and ends. It needs fastapi, uvicorn and prometheus_client; an ONNX export
does not need TensorFlow.
"""

import os
import socket
import sys

from absl import app, flags

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from theseus.classifier import Classifier
from theseus.errors import UserError

FLAGS = flags.FLAGS

flags.DEFINE_string("host", "127.0.0.1", "Address to listen on; 0.0.0.0 for all interfaces.")
flags.DEFINE_integer("port", 8000, "Port to listen on; 0 for a free one.", 0, 65535)
flags.DEFINE_integer("max_batch", 32, "Largest number of examples in a batch.", 1)
flags.DEFINE_integer(
    "max_waiting", 1024, "Largest number of waiting examples; more get status 503.", 1
)
flags.DEFINE_integer("max_texts", 256, "Largest number of examples in a request.", 1)
flags.DEFINE_integer("max_body_bytes", 1 << 20, "Largest size of a request in bytes.", 1)
flags.DEFINE_float("timeout_s", 10.0, "Seconds after which a request gets status 504.", 0.001)
flags.DEFINE_integer("drain_s", 30, "Seconds that open requests get to finish after SIGTERM.", 0)


def listen():
    """Returns the socket; UserError if the address is in use or does not belong to this machine."""
    try:
        listener = socket.create_server((FLAGS.host, FLAGS.port))
        # Each connection inherits this. asyncio sets it only for sockets that name their protocol;
        # without it an answer's body waits 40 ms until the client confirms the headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise UserError("--host, --port: %s:%d: %s" % (FLAGS.host, FLAGS.port, error.strerror))


def serve(path, load=Classifier):
    """Serves the model of a folder until a signal ends it.

    Args:
      path: the folder.
      load: function from the folder to a Classifier, or an object with the same methods.

    Raises:
      UserError: the server cannot start.
    """
    try:
        import uvicorn

        from serving.app import Limits, create_app
    except ImportError as error:
        raise UserError("needs %s; pip install fastapi uvicorn prometheus_client" % error.name)
    listener = listen()
    limits = Limits(
        FLAGS.max_batch,
        FLAGS.max_waiting,
        FLAGS.max_texts,
        FLAGS.max_body_bytes,
        FLAGS.timeout_s,
    )
    with load(path) as model:
        model.classify(
            [("a", "b")] if model.task.num_texts == 2 else ["a"], 1
        )  # The first is slow.
        config = uvicorn.Config(
            create_app(model, path, limits),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=FLAGS.drain_s,
        )
        host, port = listener.getsockname()[:2]
        print("serving %s on http://%s:%d" % (path, host, port), flush=True)
        uvicorn.Server(config).run(sockets=[listener])


def main(argv):
    """Serves; an error that the user can fix is one line."""
    try:
        if len(argv) != 2:
            raise UserError("give one folder, of a trained stage or an export, such as out_2")
        serve(argv[1])
    except UserError as error:
        sys.exit("serve.py: %s" % error)


if __name__ == "__main__":
    app.run(main)
