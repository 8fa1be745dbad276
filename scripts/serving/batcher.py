"""Gathers the examples of many requests into batches of similar length.

The next examples gather while the model computes a batch. So a busy server forms large batches, and
an idle one answers at once: no example waits for others to come.
"""

import asyncio
import concurrent.futures
import heapq


class Full(Exception):
    """Too many examples are waiting; no more are accepted."""


class _Item(object):
    """A waiting example: its texts, their length in characters, and the future of its result."""

    def __init__(self, texts, result):
        self.texts = texts
        self.length = sum(map(len, texts))
        self.result = result


class Batcher(object):
    """Runs a model on the requested examples, batch by batch; for use in one event loop.

    Attributes:
      num_waiting: int, the number of waiting examples.
    """

    def __init__(self, classify, max_batch, max_waiting, observe=lambda size: None):
        """Takes the model.

        Args:
          classify: function from a list of examples, each a tuple of texts, to their results.
          max_batch: int, the largest number of examples in a batch.
          max_waiting: int, the largest number of waiting examples.
          observe: function that is called with the size of each batch.
        """
        self._classify, self._observe = classify, observe
        self._max_batch, self._max_waiting = max_batch, max_waiting
        self._waiting = []
        self._has_more = asyncio.Event()
        # The model has its own threads: two batches at a time would only share the processors.
        self._thread = concurrent.futures.ThreadPoolExecutor(1)

    @property
    def num_waiting(self):
        return len(self._waiting)

    async def classify(self, examples):
        """Returns the results of examples, list of tuples of texts, in their order.

        Raises:
          Full: too many examples would wait.
        """
        if len(self._waiting) + len(examples) > self._max_waiting:
            raise Full
        loop = asyncio.get_running_loop()
        items = [_Item(texts, loop.create_future()) for texts in examples]
        self._waiting += items
        self._has_more.set()
        try:
            return await asyncio.gather(*(item.result for item in items))
        finally:  # If the request was given up, or one example failed, skip the others.
            for item in items:
                item.result.cancel()

    async def run(self):
        """Computes batches until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_more.wait()
            batch = self._next_batch()
            if not batch:
                self._has_more.clear()
                continue
            self._observe(len(batch))
            texts = [item.texts for item in batch]
            try:
                results = await loop.run_in_executor(self._thread, self._classify, texts)
            except Exception as error:
                for item in batch:
                    if not item.result.done():
                        item.result.set_exception(error)
                continue
            for item, result in zip(batch, results):
                if not item.result.done():
                    item.result.set_result(result)

    def _next_batch(self):
        """Removes and returns the longest-waiting example and those of the most similar length."""
        waiting = [item for item in self._waiting if not item.result.done()]
        if not waiting:
            self._waiting = []
            return []
        first, *others = waiting
        nearest = heapq.nsmallest(
            self._max_batch - 1, others, key=lambda item: abs(item.length - first.length)
        )
        batch = [first] + nearest
        taken = set(map(id, batch))
        self._waiting = [item for item in waiting if id(item) not in taken]
        return batch
