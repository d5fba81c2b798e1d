"""`jft serve` over loopback: it answers as the model does, and refuses what is too large, too slow or too much."""

import base64
import contextlib
import dataclasses
import http.client
import io
import json
import socket
import threading
import time
import tracemalloc
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jft.cli.serve import hosts_of
from jft.evaluation.load import load
from jft.serving.limits import Limits, Refused

for needed in ("uvicorn", "starlette", "python_multipart", "prometheus_client"):
    pytest.importorskip(needed, reason=f"{needed} is not installed: pip install 'jft[serve]'")
images = pytest.importorskip("jft.serving.images")
server = pytest.importorskip("jft.serving.server")
App = pytest.importorskip("jft.serving.app").App

LIMITS = {
    "body": 200_000,
    "images": 4,
    "pixels": 1_000_000,
    "queue": 8,
    "head": 60.0,
    "reading": 60.0,
    "answering": 60.0,
}


@pytest.fixture(scope="module")
def model(quick):
    return load("vgg_tiny.digits04", batch_size=4)


@contextlib.contextmanager
def served(model, page=None, hosts=("*",), **limits):
    """The application and its port."""
    limits = Limits(**{**LIMITS, **limits})
    app = App(model, limits, 0.002, page, hosts)
    at, ready = server.bound("127.0.0.1", 0), threading.Event()
    found = server.server_of(app.asgi, limits, ready.set)
    thread = threading.Thread(target=found.run, args=([at],))
    thread.start()
    try:
        assert ready.wait(60)
        yield app, at.getsockname()[1]
    finally:
        found.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def port(model):
    with served(model) as (app, port):
        yield port
        assert (app._bytes.now, app._queue.now) == (0, 0)  # all that was taken was given back


def png(size=(20, 20), mode="RGB", seed=0):
    image = Image.new(mode, size)
    if mode == "RGB":
        image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def form(*contents):
    parts = [
        b'--edge\r\nContent-Disposition: form-data; name="image"; filename="%d.png"\r\n\r\n%s\r\n' % (number, content)
        for number, content in enumerate(contents)
    ]
    return b"".join(parts) + b"--edge--\r\n", {"Content-Type": "multipart/form-data; boundary=edge"}


def as_json(value):
    return json.dumps(value).encode(), {"Content-Type": "application/json"}


def ask(port, body, headers, path="/predict", method="POST"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        is_json = answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(content) if is_json else content.decode()


def test_it_answers_as_the_model_does_by_form_and_by_json(model, port):
    contents = [png(seed=1), png((30, 11), seed=2)]
    wanted = model.predict(contents)
    texts = [base64.b64encode(content).decode() for content in contents]
    for body, headers in (form(*contents), as_json({"images": texts})):
        status, answer = ask(port, body, headers, path="/predict?top=9")
        assert status == 200 and answer["model"] == model.name
        for told, row in zip(answer["predictions"], wanted, strict=True):
            assert len(told["classes"]) == len(model.class_names)
            found = {one["class"]: one["probability"] for one in told["classes"]}
            np.testing.assert_allclose([found[name] for name in model.class_names], row, atol=1e-5)
            assert told["classes"][0]["class"] == model.class_names[row.argmax()]
    assert [one["name"] for one in answer["predictions"]] == ["image 1", "image 2"]


def test_requests_that_come_together_go_through_the_model_together_and_nothing_is_compiled(
    model, compilations, monkeypatch
):
    with served(model) as (app, port):
        sizes, logits, may_go = [], app._batcher._logits, threading.Event()

        def noted(squares):
            sizes.append(len(squares))
            assert may_go.wait(60)
            return logits(squares)

        monkeypatch.setattr(app._batcher, "_logits", noted)
        compilations.clear()
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(ask, port, *form(png(seed=seed))) for seed in range(6)]
            until(lambda: app._queue.now == 6)
            may_go.set()
            statuses = [answer.result()[0] for answer in answers]
    assert statuses == [200] * 6 and not compilations
    assert sum(sizes) == 6 and len(sizes) < 6 and max(sizes) <= model.batch_size


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_more_than_the_queue_holds_is_refused_and_a_late_answer_too(model, monkeypatch):
    with served(model, queue=2) as (app, port):
        logits, may_go = app._batcher._logits, threading.Event()
        monkeypatch.setattr(app._batcher, "_logits", lambda squares: may_go.wait(60) and logits(squares))
        with ThreadPoolExecutor(2) as pool:
            first = [pool.submit(ask, port, *form(png())) for _ in range(2)]
            until(lambda: app._queue.now == 2)
            status, answer = ask(port, *form(png()))
            assert status == 429 and "at a time" in answer["error"]
            may_go.set()
            assert [one.result()[0] for one in first] == [200, 200]
        may_go.clear()
        monkeypatch.setattr(app, "_limits", dataclasses.replace(app._limits, answering=0.1))
        assert ask(port, *form(png()))[0] == 504
        may_go.set()


def test_a_fault_of_the_server_is_an_answer_that_counts(model, monkeypatch):
    with served(model) as (_, port):
        monkeypatch.setattr(images, "read", lambda *_: 1 / 0)
        status, answer = ask(port, *form(png()))
        assert status == 500 and "its log" in answer["error"]
        assert 'jft_requests_total{status="500"} 1.0' in ask(port, None, {}, "/metrics", "GET")[1]


HUGE = png((10_000, 5_000), "1")  # 50 megapixels, in some kilobytes
GOOD = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    ("status", "says", "request_"),
    [
        (413, "more than 1,000,000 pixels", form(HUGE)),
        (413, "send at most 4", form(*[png()] * 5)),
        (413, "bytes: send at most 200,000 in a request", form(bytes(300_000))),
        (413, "send at most 200,000 bytes", (iter([bytes(150_000)] * 2), form(b"")[1])),  # of no declared length
        (415, "the content type is text/plain", (b"hello", {"Content-Type": "text/plain"})),
        (415, "the content type is not given", (b"hello", {})),
        (422, "cannot read 1.png as an image (its content is none of", form(png(), b"only a text, and no image")),
        (422, "cannot read 0.png as an image", form(png()[:200])),
        (422, "cannot read 0.png as an image (it is empty)", form(b"")),
        (422, "there is no image", form()),
        (422, "the form cannot be read", (b"no form", form()[1])),
        (422, "the form cannot be read", (form(png())[0], {"Content-Type": "multipart/form-data"})),
        (422, "there is no image", as_json({"images": []})),
        (422, "the body is no JSON", (b"{", as_json(0)[1])),
        (422, "the body is no JSON", (b"[" * 1_000, as_json(0)[1])),
        (413, "more than 1,000 values", (b"[" * 100_000, as_json(0)[1])),
        (413, "send at most 4", as_json({"images": [GOOD] * 5})),
        (422, "this is something else", as_json([GOOD])),
        (422, "this is something else", as_json({"images": [3]})),
        (422, "an image is no base64", as_json({"images": ["?" + GOOD]})),
    ],
)
def test_bad_input_is_refused_by_what_is_wrong_with_it(port, status, says, request_):
    found, answer = ask(port, *request_)
    assert (found, says in answer["error"]) == (status, True), answer


@pytest.mark.parametrize("top", ["0", "-1", "many", "%C2%B2"])
def test_a_wrong_number_of_classes_is_refused(port, top):
    assert ask(port, *form(png()), path=f"/predict?top={top}")[0] == 422


def test_health_metrics_and_the_page(model, port):
    ask(port, *form(png()))
    assert ask(port, None, {}, "/health", "GET")[1]["status"] == "ok"
    status, text = ask(port, None, {}, "/metrics", "GET")
    assert status == 200 and 'jft_requests_total{status="200"}' in text and "jft_batch_images_count" in text
    status, text = ask(port, None, {}, "/", "GET")
    assert status == 200 and "<html" in text
    assert ask(port, None, {}, "/predict", "GET")[0] == 405 and ask(port, None, {}, "/other", "GET")[0] == 404


@pytest.mark.parametrize("name", ["image", 'image"; filename="a'])
def test_the_parts_of_a_form_are_counted_while_they_are_read(name):
    part = b'--edge\r\nContent-Disposition: form-data; name="%s"\r\n\r\n\r\n' % name.encode()
    tiny = part * 100_000 + b"--edge--\r\n"
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="send at most 4"):
            images.parse(tiny, form()[1]["Content-Type"], Limits(images=4))
        assert tracemalloc.get_traced_memory()[1] < len(tiny) + 1e6
    finally:
        tracemalloc.stop()


def test_a_page_that_is_not_read_is_given_up(model, tmp_path, monkeypatch):
    lost, end = threading.Event(), server._Protocol.connection_lost
    monkeypatch.setattr(server._Protocol, "connection_lost", lambda self, exc: (end(self, exc), lost.set()))
    with (tmp_path / "demo.html").open("wb") as page:
        page.truncate(50_000_000)  # more than the system's buffers take
    with (
        served(model, tmp_path / "demo.html", sending=0.1) as (_, port),
        socket.create_connection(("127.0.0.1", port)) as idle,
    ):
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert lost.wait(60)


def told(port, *pieces, pause=0.0):
    """What the server says to pieces of a request, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
            return b"".join(iter(lambda: connection.recv(4096), b""))
        return b""


def test_slow_clients_and_half_requests_are_bounded(model):
    body, _ = form(png())
    kind = b"Content-Type: multipart/form-data; boundary=edge"
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\n%s\r\nContent-Length: %%d\r\n\r\n" % kind
    hostile = {
        "nothing": ((), 0),
        "half a head": ((b"POST /predict HTTP/1.1\r\nHo",), 0),
        "a head, drop by drop": ([b"P", b"O", b"S", b"T"] * 4, 0.2),
        "half a body": ((head % len(body) + body[:50],), 0),
        "a body, drop by drop": ((head % len(body), *[b"-"] * 3), 0.2),
        "no HTTP": ((b"\x16\x03\x01" * 50,), 0),
    }
    with served(model, head=2.0, reading=2.0) as (_, port), ThreadPoolExecutor(len(hostile)) as pool:
        answers = {what: pool.submit(told, port, *pieces, pause=pause) for what, (pieces, pause) in hostile.items()}
        answers = {what: answer.result()[:12] for what, answer in answers.items()}
    assert answers.pop("half a body") == answers.pop("a body, drop by drop") == b"HTTP/1.1 408"
    assert answers.pop("no HTTP") == b"HTTP/1.1 400"
    assert set(answers.values()) == {b""}  # closed


def test_a_page_of_the_run_and_names_of_strangers(model, tmp_path):
    (tmp_path / "demo.html").write_text("<p>of the run")
    with served(model, tmp_path / "demo.html", hosts_of("127.0.0.1")) as (_, port):
        assert ask(port, None, {"Host": "localhost:99"}, "/", "GET") == (200, "<p>of the run")
        assert ask(port, None, {"Host": "[::1]:99"}, "/", "GET")[0] == 200
        assert ask(port, None, {"Host": "evil.example"}, "/", "GET")[0] == 400
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            policy, types = answer.headers["content-security-policy"], answer.headers["x-content-type-options"]
    assert "default-src 'none'" in policy and types == "nosniff"


def test_at_loopback_only_its_names_are_answered():
    for address in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert {"localhost", address} <= {*hosts_of(address)} and "*" not in hosts_of(address)
    assert hosts_of("0.0.0.0") == hosts_of("::") == hosts_of("a.example") == ("*",)


def test_an_address_that_is_taken_is_an_error_before_anything_is_loaded(command):
    with contextlib.closing(server.bound("127.0.0.1", 0)) as taken:
        taken.listen()
        status, _, error = command("serve", "no run", "--port", taken.getsockname()[1])
    assert status == 1 and "in use" in error and "--port" in error
