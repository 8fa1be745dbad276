"""One step of training: a batch is fed, in parts where it is cut, and the variables updated."""

import collections

import modeling_theseus
from theseus.inputs import batches

StepValues = collections.namedtuple(
    "StepValues", "loss replacing_rate path learning_rate gradient_norm"
)
"""What a step has computed: floats, and the modules replaced, bool [M]."""


class StepRunner(object):
    """Runs the steps of a TrainingGraph."""

    def __init__(self, session, graph, data, num_parts=1):
        """Takes the parts.

        Args:
          session: a tf.Session over the graph.
          graph: a TrainingGraph.
          data: labelled encoding.EncodedExamples.
          num_parts: int, the micro-batches that a step's batch is cut into. Above 1 the graph
            must have an accumulate_op.
        """
        self._session = session
        self._graph = graph
        self._data = data
        self._num_parts = num_parts

    def run(self, rows):
        """Trains on the rows of a batch, int64 [B]; returns the StepValues."""
        graph, losses = self._graph, []
        parts = batches.cut_batch(rows, self._num_parts)
        for number, part in enumerate(parts[:-1]):
            feed = self.feed(part, number, len(rows))
            losses.append(self._session.run([graph.loss, graph.accumulate_op], feed)[0])
        feed = self.feed(parts[-1], len(parts) - 1, len(rows))
        fetches = StepValues(*[getattr(graph, name) for name in StepValues._fields])
        values, _ = self._session.run([fetches, graph.train_op], feed)
        return values._replace(loss=values.loss + sum(losses))

    def feed(self, rows, micro_batch, batch_size):
        """Returns the feed of a micro-batch, or of a whole batch as the only one."""
        graph = self._graph
        feed = modeling_theseus.feed_features(graph.features, self._data.batch(rows))
        feed[graph.labels] = self._data.labels[rows]
        if graph.teacher_logits is not None:
            feed[graph.teacher_logits] = self._data.teacher_logits[rows]
        if graph.accumulate_op is not None:
            feed.update({graph.micro_batch: micro_batch, graph.batch_size: batch_size})
        return feed
