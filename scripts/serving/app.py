"""The HTTP application of serve.py.

POST /classify  {"text_a": ..., "text_b": ...}, or a list of these; text_b only for a task of pairs
GET /healthz    a description of the model
GET /metrics    for Prometheus
GET /           a page for trying it
"""

import asyncio
import collections
import contextlib
import io
import os
import time

import fastapi
import prometheus_client
import pydantic
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from serving.batcher import Batcher, Full
from theseus.errors import UserError
from theseus.inputs.reading import holds_nothing

Limits = collections.namedtuple(
    "Limits", "max_batch max_waiting max_texts max_body_bytes timeout_s"
)
"""The limits of the server.

Fields:
  max_batch, max_waiting: see Batcher.
  max_texts: int, the largest number of examples in a request.
  max_body_bytes: int, the largest size of a request.
  timeout_s: float, the seconds after which a request is given up.
"""


class _Pair(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    text_a: str
    text_b: str

    def texts(self):
        return self.text_a, self.text_b


class _Text(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)
    text_a: str

    def texts(self):
        return (self.text_a,)


class _Refused(Exception):
    """A request that is answered with a status and one line."""

    def __init__(self, status, message):
        super(_Refused, self).__init__(message)
        self.status = status


class _Metrics(object):
    """The metrics for Prometheus."""

    def __init__(self, num_waiting):
        self.registry = registry = prometheus_client.CollectorRegistry()
        self.requests = prometheus_client.Counter(
            "requests", "Requests to /classify by status.", ["status"], registry=registry
        )
        self.seconds = prometheus_client.Histogram(
            "request_seconds", "Seconds from a request's arrival to its answer.", registry=registry
        )
        self.batches = prometheus_client.Histogram(
            "batch_size",
            "Examples in a batch.",
            buckets=[1, 2, 4, 8, 16, 32, 64, 128],
            registry=registry,
        )
        waiting = prometheus_client.Gauge(
            "waiting", "Examples that are waiting.", registry=registry
        )
        waiting.set_function(num_waiting)


def create_app(model, name, limits):
    """Returns the FastAPI application.

    Args:
      model: a Classifier.
      name: str, the name of the model in /healthz.
      limits: Limits.
    """
    service = _Service(model, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        worker = asyncio.create_task(service.batcher.run())
        yield
        worker.cancel()

    app = fastapi.FastAPI(title="bert-theseus", lifespan=lifespan)
    _answer_errors(app)

    @app.post("/classify")
    async def classify(request: fastapi.Request):
        start = time.perf_counter()
        try:
            answer = JSONResponse(await service.answer(request))
        except _Refused as refused:
            headers = {"Retry-After": "1"} if refused.status == 503 else None
            answer = JSONResponse({"error": str(refused)}, refused.status, headers)
        service.metrics.requests.labels(str(answer.status_code)).inc()
        service.metrics.seconds.observe(time.perf_counter() - start)
        return answer

    @app.get("/healthz")
    async def healthz():
        task = model.task
        return {"model": name, "labels": list(model.labels), "num_texts": task.num_texts}

    @app.get("/metrics")
    async def metrics():
        content = prometheus_client.generate_latest(service.metrics.registry)
        return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.get("/", response_class=HTMLResponse)
    async def page():
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page.html")
        with io.open(path, encoding="utf-8") as reader:
            return reader.read()

    return app


def _answer_errors(app):
    """Makes an application's own errors have the same form as the other answers."""

    @app.exception_handler(HTTPException)
    async def refuse(_, error):
        """Answers a request for an unknown path or method."""
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(_, error):
        """Answers after a bug, whose traceback is in the log."""
        return JSONResponse({"error": "internal error; see the server's log"}, 500)


class _Service(object):
    """Reads and answers requests, with a model behind a Batcher."""

    def __init__(self, model, limits):
        self._limits, self._labels = limits, model.labels
        self._is_regression = model.task.is_regression
        self._takes_pairs = model.task.num_texts == 2
        item = _Pair if self._takes_pairs else _Text
        self._one, self._list = pydantic.TypeAdapter(item), pydantic.TypeAdapter(list[item])
        self.metrics = _Metrics(lambda: self.batcher.num_waiting)
        self.batcher = Batcher(
            lambda examples: self._classify(model, examples),
            limits.max_batch,
            limits.max_waiting,
            self.metrics.batches.observe,
        )

    def _classify(self, model, examples):
        rows = examples if self._takes_pairs else [text for (text,) in examples]
        return model.classify(rows, batch_size=self._limits.max_batch)

    async def answer(self, request):
        """Returns the answer to a request as JSON; raises _Refused."""
        body = await self._read(request)
        is_list = body.lstrip()[:1] == b"["
        examples = self._parse(body, is_list)
        try:
            results = await asyncio.wait_for(
                self.batcher.classify(examples), self._limits.timeout_s
            )
        except Full:
            raise _Refused(503, "too many examples are waiting; try again later")
        except asyncio.TimeoutError:
            raise _Refused(
                504, "no answer within %g seconds; try again later" % self._limits.timeout_s
            )
        except UserError as error:  # Such as logits that are not finite.
            raise _Refused(500, str(error))
        answers = [self._describe(*result) for result in results]
        return answers if is_list else answers[0]

    async def _read(self, request):
        most, body = self._limits.max_body_bytes, bytearray()
        declared = request.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > most:
            raise _Refused(413, "expected a request of at most %d bytes" % most)
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise _Refused(413, "expected a request of at most %d bytes" % most)
        return bytes(body)

    def _parse(self, body, is_list):
        """Returns the examples of a request, list of tuples of texts; raises _Refused."""
        try:
            items = self._list.validate_json(body) if is_list else [self._one.validate_json(body)]
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            status = 400 if first["type"] == "json_invalid" else 422
            place = "".join("%s: " % part for part in first["loc"])
            raise _Refused(status, place + first["msg"])
        if not 0 < len(items) <= self._limits.max_texts:
            raise _Refused(422, "give from 1 to %d examples" % self._limits.max_texts)
        examples = [item.texts() for item in items]
        for number, texts in enumerate(examples):
            if holds_nothing(texts[0], texts[-1]):
                place = "%d: " % number if is_list else ""
                raise _Refused(422, place + "expected a text, found nothing")
        return examples

    def _describe(self, label, probabilities):
        if self._is_regression:
            return {"score": label}
        return {"label": label, "probabilities": dict(zip(self._labels, probabilities))}
