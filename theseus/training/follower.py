"""A worker that is not the chief: it trains in step with it, and writes nothing."""

from theseus.training import initial_weights
from theseus.training.steps import steps_done
from theseus.training.stop import stop_on_signal


def follow(initial, steps, session, workers):
    """Trains for as long as the chief does.

    Args:
      initial: InitialWeights.
      steps: Steps.
      session: a tf.Session over the TrainingGraph.
      workers: Workers of the session.

    Returns:
      bool: whether it came to the end without a signal to stop.

    Raises:
      UserError: the loss is no longer a finite number.
    """
    initial_weights.start(initial, session, workers)
    workers.take_over_weights()
    step = steps_done(session)
    with stop_on_signal(workers) as stop:
        while not stop.ends_training():
            for rows in steps.rest_of_epoch(step):
                steps.train_step(rows, step)
                step += 1
                if stop.is_requested():
                    break
        return not stop.requested
