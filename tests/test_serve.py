"""Tests of the server: its answers, its batches and its limits."""

import asyncio
import json
import os
import shutil
import signal
import socket
import threading
import time
import types
import urllib.parse
import urllib.request

import pytest

import forks
import serve
from conftest import ROOT, run, write_stage
from serving.batcher import Batcher, Full
from theseus import Classifier
from theseus.errors import UserError

pytest.importorskip("uvicorn")
serving = pytest.importorskip("serving.app")
testclient = pytest.importorskip("starlette.testclient")

SCRIPT = os.path.join(ROOT, "scripts", "serve.py")
LONG = 600  # Seconds; a test only waits that long if the event never comes.
LIMITS = serving.Limits(4, max_waiting=6, max_texts=5, max_body_bytes=1000, timeout_s=LONG)
PAIR = {"text_a": "手机", "text_b": "电脑"}


class FakeModel(object):
    """A model whose second probability is the texts' length / 100; a test can make it wait."""

    labels = ("no", "yes")

    def __init__(self, num_texts=2, is_regression=False):
        self.task = types.SimpleNamespace(num_texts=num_texts, is_regression=is_regression)
        self.batches, self.may_go, self.is_asked = [], threading.Event(), threading.Event()
        self.may_go.set()

    def classify(self, rows, batch_size):
        assert len(rows) <= batch_size
        self.batches.append(rows)
        self.is_asked.set()
        assert self.may_go.wait(LONG)
        if any("!" in "".join(row) for row in rows):
            raise UserError("the model's logits are not finite numbers")
        if self.task.is_regression:
            return [(float(len("".join(row))), []) for row in rows]
        shares = [len("".join(row)) / 100 for row in rows]
        return [("yes" if share > 0.5 else "no", [1 - share, share]) for share in shares]


def client_of(model, limits=LIMITS):
    return testclient.TestClient(serving.create_app(model, "out_2", limits))


# --- What is answered ---


def test_one_example_and_a_list_are_answered_in_their_order():
    with client_of(FakeModel()) as client:
        answer = client.post("/classify", json=PAIR)
        assert (answer.status_code, answer.json()) == (
            200,
            {"label": "no", "probabilities": {"no": 0.96, "yes": 0.04}},
        )
        rows = [{"text_a": "a" * n, "text_b": ""} for n in (60, 10, 55)]
        answer = client.post("/classify", json=rows)
        assert [one["label"] for one in answer.json()] == ["yes", "no", "yes"]


def test_single_texts_and_numbers_are_answered():
    with client_of(FakeModel(num_texts=1)) as client:
        assert client.post("/classify", json={"text_a": "a" * 60}).json()["label"] == "yes"
        assert client.post("/classify", json=PAIR).status_code == 422
        assert client.post("/classify", json={"text_a": "\t"}).status_code == 422
        assert client.get("/healthz").json()["num_texts"] == 1
    with client_of(FakeModel(is_regression=True)) as client:
        assert client.post("/classify", json=[PAIR]).json() == [{"score": 4.0}]


@pytest.mark.parametrize(
    "body, status, message",
    [
        ("{", 400, "Invalid JSON: "),
        ("", 400, "Invalid JSON: "),
        ("{}", 422, "text_a: Field required"),
        ('{"text_a": "a"}', 422, "text_b: Field required"),
        ('[{"text_a": "a", "text_b": 5}]', 422, "0: text_b: Input should be a valid string"),
        ('{"text_a": "a", "text_b": null}', 422, "text_b: Input should be a valid string"),
        ('{"text_a": "a", "text_b": "b", "text_c": "c"}', 422, "text_c: Extra inputs are not"),
        ("[]", 422, "give from 1 to 5 examples"),
        (json.dumps([{"text_a": "", "text_b": ""}] * 6), 422, "give from 1 to 5 examples"),
        ('{"text_a": "", "text_b": ""}', 422, "expected a text, found nothing"),
        (
            '[{"text_a": "a", "text_b": ""}, {"text_a": " \\u3000", "text_b": "\\u200b"}]',
            422,
            "1: exp",
        ),
        ('"text"', 422, "Input should be an object"),
        (
            json.dumps(dict(PAIR, text_a="a" * 1000)),
            413,
            "expected a request of at most 1000 bytes",
        ),
        ('{"text_a": "!", "text_b": "!"}', 500, "the model's logits are not finite numbers"),
    ],
)
def test_what_cannot_be_answered_is_one_line(body, status, message):
    with client_of(FakeModel()) as client:
        answer = client.post("/classify", content=body)
        found = answer.json()["error"]
        assert answer.status_code == status and found.startswith(message) and "\n" not in found
        assert client.post("/classify", json=PAIR).status_code == 200


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/none", 404),
        ("POST", "/", 405),
        ("GET", "/classify", 405),
        ("PUT", "/healthz", 405),
    ],
)
def test_another_path_or_method_is_answered_in_the_same_form(method, path, status):
    with client_of(FakeModel()) as client:
        answer = client.request(method, path)
        assert answer.status_code == status and list(answer.json()) == ["error"]
        assert answer.json()["error"] and (status == 404 or answer.headers["allow"])


def test_a_bug_is_answered_in_the_same_form():
    model = FakeModel()
    model.classify = lambda rows, batch_size: 1 / 0
    app = serving.create_app(model, "out_2", LIMITS)
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/classify", json=PAIR)
    assert answer.status_code == 500 and list(answer.json()) == ["error"]


@pytest.mark.parametrize("declared", ["-1", "1e3", "9" * 30])
def test_a_body_is_not_longer_than_its_limit_whatever_is_declared(declared):
    with client_of(FakeModel()) as client:
        parts = (b"x" * 50 for _ in range(30))
        assert client.post("/classify", content=parts).status_code == 413
        headers = {"content-length": declared}
        assert client.post("/classify", content=b"{}", headers=headers).status_code == 413


def test_a_queue_that_is_full_is_answered_at_once_and_empties():
    model = FakeModel()
    model.may_go.clear()
    with client_of(model) as client:
        answers = []

        def ask(count):
            answers.append(client.post("/classify", json=[{"text_a": "", "text_b": "b"}] * count))

        threads = [threading.Thread(target=ask, args=[count]) for count in (1, 3, 3)]
        threads[0].start()
        assert model.is_asked.wait(LONG)  # It computes one; then six may wait.
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: metric(client, "waiting") == 6)
        refused = client.post("/classify", json=PAIR)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        model.may_go.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert client.post("/classify", json=PAIR).status_code == 200
        assert [len(rows) for rows in model.batches] == [1, 4, 2, 1]


def test_what_was_given_up_is_not_computed():
    model = FakeModel()
    model.may_go.clear()
    limits = types.SimpleNamespace(**LIMITS._asdict())
    with client_of(model, limits) as client:
        thread = threading.Thread(target=lambda: client.post("/classify", json=PAIR))
        thread.start()
        assert model.is_asked.wait(LONG)
        limits.timeout_s = 0.2
        late = client.post("/classify", json={"text_a": "late", "text_b": ""})
        assert late.status_code == 504 and late.json() == {
            "error": "no answer within 0.2 seconds; try again later"
        }
        limits.timeout_s = LONG
        model.may_go.set()
        thread.join()
        assert client.post("/classify", json=PAIR).status_code == 200
    assert ("late", "") not in [row for rows in model.batches for row in rows]


def metric(client, name):
    lines = client.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


def wait_until(is_so):
    end = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_prometheus_is_told_of_statuses_batches_and_seconds():
    with client_of(FakeModel()) as client:
        for body in (PAIR, [PAIR] * 5, {}):
            client.post("/classify", json=body)
        assert metric(client, 'requests_total{status="200"}') == 2
        assert metric(client, 'requests_total{status="422"}') == 1
        assert (metric(client, "batch_size_count"), metric(client, "batch_size_sum")) == (3, 6)
        assert metric(client, "request_seconds_count") == 3


def test_the_page_and_what_it_asks_for_are_there():
    with client_of(FakeModel()) as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert 'fetch("classify"' in page.text and 'fetch("healthz")' in page.text
        about = {"model": "out_2", "labels": ["no", "yes"], "num_texts": 2}
        assert client.get("/healthz").json() == about


# --- Batches ---


def test_the_oldest_is_computed_with_those_of_the_nearest_length():
    batches, may_go = [], threading.Event()

    def classify(examples):
        batches.append([len(text) for (text,) in examples])
        assert may_go.wait(LONG)
        return [len(text) for (text,) in examples]

    async def serve():
        batcher = Batcher(classify, max_batch=3, max_waiting=100)
        worker = asyncio.ensure_future(batcher.run())
        asked = [
            asyncio.ensure_future(batcher.classify([("x" * n,)])) for n in (1, 50, 5, 9, 52, 40)
        ]
        while not batches:
            await asyncio.sleep(0.01)
        may_go.set()
        found = await asyncio.gather(*asked)
        worker.cancel()
        return found

    assert asyncio.run(serve()) == [[1], [50], [5], [9], [52], [40]]
    assert [sorted(lengths) for lengths in batches] == [[1, 5, 9], [40, 50, 52]]


def test_a_batch_that_fails_does_not_end_the_others():
    def classify(examples):
        if ("bad",) in examples:
            raise UserError("bad")
        return [text for (text,) in examples]

    async def serve():
        batcher = Batcher(classify, max_batch=1, max_waiting=2)
        worker = asyncio.ensure_future(batcher.run())
        with pytest.raises(UserError):
            await batcher.classify([("bad",)])
        with pytest.raises(Full):
            await batcher.classify([("a",)] * 3)
        found = await batcher.classify([("a",), ("b",)])
        worker.cancel()
        return found

    assert asyncio.run(serve()) == ["a", "b"]


# --- The process ---


def test_sigterm_answers_what_was_begun(tmp_path):
    folder = write_stage(tmp_path / "out_2", "successor")
    process = forks.Fork([SCRIPT, folder.path, "--port=0"], tmp_path)
    address = process.wait_for("serving ").split()[-1]
    rows = [{"text_a": "手机" * 200, "text_b": "电脑"}] * 100
    answers = []

    def ask():
        request = urllib.request.Request(address + "/classify", json.dumps(rows).encode())
        with urllib.request.urlopen(request) as answer:
            answers.append(json.load(answer))

    thread = threading.Thread(target=ask)
    thread.start()

    def metrics():
        return urllib.request.urlopen(address + "/metrics").read().decode()

    wait_until(lambda: "batch_size_count 0.0" not in metrics())
    process.kill(signal.SIGTERM)
    assert process.wait(LONG) in (0, -signal.SIGTERM)
    thread.join()
    with Classifier(folder.path) as model:
        (label, probabilities), *_ = model.classify([("手机" * 200, "电脑")])
    (answer,) = answers
    assert len(answer) == 100 and answer[0]["label"] == label
    assert answer[0]["probabilities"]["1"] == pytest.approx(probabilities[1], abs=1e-5)


def test_an_answer_does_not_wait_for_its_head_to_be_confirmed(monkeypatch):
    monkeypatch.setattr(serve, "FLAGS", types.SimpleNamespace(host="127.0.0.1", port=0))
    with serve.listen() as listener, socket.create_connection(listener.getsockname()):
        with listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("mistake", ["folder", "port"])
def test_a_mistake_is_one_line(tmp_path, mistake):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if mistake == "port" else 0
        status, _, errors = forks.run([SCRIPT, "none", "--port=%d" % port], tmp_path)
    line = errors.splitlines()[-1]
    expected = "none: " if mistake == "folder" else "--host, --port: 127.0.0.1:%d: Address" % port
    assert status == 1 and line.startswith("serve.py: " + expected)
    assert "Traceback" not in errors


def test_the_page_works_in_a_browser(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium")
    folder = write_stage(tmp_path / "out_2", "successor")
    with Classifier(folder.path) as model:
        (label, probabilities), *_ = model.classify([("手机", "电脑")])
    process = forks.Fork([SCRIPT, folder.path, "--port=0"], tmp_path)
    address = process.wait_for("serving ").split()[-1]
    query = urllib.parse.urlencode({"text_a": "手机", "text_b": "电脑"})
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"]
    arguments = [browser] + options + ["--dump-dom", "%s/?%s" % (address, query)]
    _, page, _ = run(arguments, tmp_path)
    assert "<h2>%s</h2>" % label in page
    for name, probability in zip("01", probabilities):
        assert "<span>%s  %.4f</span>" % (name, probability) in page
