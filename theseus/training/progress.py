"""An epoch's progress: a bar on a terminal, otherwise a log line every --log_steps steps."""

import time

import numpy as np
from absl import logging
from tqdm import tqdm


class Progress(object):
    """Shows loss, modules replaced (in stage 1) and speed, as means since the last line was due.

    It is a context manager; at its end the bar is removed.
    """

    def __init__(self, name, first_step, last_step, num_steps, log_steps, is_replacing):
        """Begins an epoch, or the rest of one.

        Args:
          name: str, such as "epoch 1/3".
          first_step, last_step: int, the number of steps done before it and after it.
          num_steps: int, the number of steps of the whole training.
          log_steps: int, a line is due whenever it divides the number of steps done.
          is_replacing: bool, whether modules are replaced.
        """
        self._name = name
        self._num_steps = num_steps
        self._log_steps = log_steps
        self._is_replacing = is_replacing
        self._bar = tqdm(
            desc=name,
            total=last_step - first_step,
            bar_format="{desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}",
            disable=None,
        )
        self._start_window()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def _start_window(self):
        self._values, self._examples, self._start = [], 0, time.perf_counter()

    def update(self, step, values, examples):
        """Counts a step.

        Args:
          step: int, the number of steps done.
          values: the step's StepValues.
          examples: int, the number of rows of its batch.

        Returns:
          float, the examples per second since the last line, if a line is due; otherwise None.
        """
        self._values.append(values)
        self._examples += examples
        is_line_due = step % self._log_steps == 0 or step == self._num_steps
        if not self._bar.disable:
            self._bar.set_postfix_str(self._describe(step), refresh=False)
            self._bar.update()
        elif is_line_due:
            place = "%s, step %d/%d" % (self._name, step, self._num_steps)
            logging.info("%s, %s", place, self._describe(step))
        speed = self._speed() if is_line_due else None
        if is_line_due:
            self._start_window()
        return speed

    def _speed(self):
        return self._examples / (time.perf_counter() - self._start)

    def _describe(self, step):
        seconds = time.perf_counter() - self._start
        left = (self._num_steps - step) * seconds / len(self._values)
        parts = ["loss %.4f" % np.mean([values.loss for values in self._values])]
        if self._is_replacing:
            replaced = np.mean([values.mask.sum() for values in self._values])
            parts += [
                "rate %.2f" % self._values[-1].replacing_rate,
                "replaced %.1f/%d" % (replaced, len(self._values[-1].mask)),
            ]
        left = tqdm.format_interval(left)
        return ", ".join(parts + ["%.1f examples/s" % self._speed(), "%s left" % left])
