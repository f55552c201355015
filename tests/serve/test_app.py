"""Every address of the service, and its answers against the pipeline's own."""

import base64
import io
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kryptonite.inference.verdict import REASONS
from kryptonite.serve.errors import CODES
from kryptonite.serve.limits import Limits
from kryptonite.serve.models import Code
from kryptonite.serve.work import Job, Worker
from tests.serve.conftest import encoded


def form(first, second):
    return {"photo_a": ("a.png", first), "photo_b": ("b.png", second)}


def as_json(first, second, **options):
    photos = {"photo_a": first, "photo_b": second}
    return {name: base64.b64encode(photo).decode() for name, photo in photos.items()} | options


def check_answer(answer, expected):
    """Compares a JSON answer with a Verification."""
    assert answer["accepted"] is expected.accepted
    assert (answer["code"], answer["reason"]) == (expected.code, expected.reason)
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4)
    name, value = expected.threshold_name, expected.threshold
    assert answer["threshold"] == {"name": name, "value": value}
    assert answer["parts"] == pytest.approx(vars(expected.parts), abs=1e-4)
    assert answer["similarity"] == pytest.approx(expected.similarity, abs=1e-5)
    assert answer["comparison"] == pytest.approx(expected.comparison, abs=1e-4)
    for photo, facts in zip(answer["photos"], expected.photos, strict=True):
        assert (photo["width"], photo["height"]) == (facts.width, facts.height)
        assert photo["status"] == facts.status
        assert photo["box"] == pytest.approx(facts.box, abs=1e-2)
        assert np.allclose(photo["landmarks"], facts.landmarks, atol=1e-2)
        probability = facts.synthetic_probability
        assert photo["synthetic_probability"] == pytest.approx(probability, abs=1e-5)
        assert photo["quality"] == pytest.approx(vars(facts.quality), rel=1e-2)


def test_verify_answers_as_the_pipeline_does(client, photos, served_pipeline):
    expected = served_pipeline.verify(*photos[:2])
    for answer in (
        client.post("/v1/verify", files=form(*photos[:2])),
        client.post("/v1/verify", json=as_json(*photos[:2])),
    ):
        assert answer.status_code == 200
        check_answer(answer.json(), expected)
        assert answer.json()["seconds"] > 0
        assert [photo["crop"] for photo in answer.json()["photos"]] == [None, None]


def test_verify_explains_when_asked_without_computing_again(make_client, photos, served_pipeline):
    batches = []

    class Counted(type(served_pipeline)):
        def verify_many(self, pairs, *options):
            batches.append(len(pairs))
            return super().verify_many(pairs, *options)

    fuser = replace(served_pipeline.verifier.fuser, identity_intercept=100.0)  # surely one person
    refusing = {served_pipeline.chosen: replace(served_pipeline.verifier, fuser=fuser)}
    counted = Counted(**{**vars(served_pipeline), "verifiers": refusing})
    expected = counted.explain(*photos[:2], threshold="fmr=0.01")
    assert expected.photo is not None and expected.branch
    client = make_client(pipeline=counted)
    batches.clear()
    question = {"threshold": "fmr=0.01"}
    for answer in (
        client.post("/v1/verify", files=form(*photos[:2]), data={**question, "explain": "true"}),
        client.post("/v1/verify", json=as_json(*photos[:2], **question, explain=True)),
    ):
        assert answer.status_code == 200, answer.text
        explanation = answer.json()["explanation"]
        assert explanation.pop("llr") == pytest.approx(expected.llr, abs=1e-4)
        assert explanation == {
            "photo": ("photo_a", "photo_b")[expected.photo],
            "branch": expected.branch,
            "degree": expected.degree,
            "support": expected.support,
            "scale": expected.scale,
        }
    plain = client.post("/v1/verify", files=form(*photos[:2])).json()
    assert plain["explanation"] is None
    assert batches == [1, 1, 1]


def test_verify_explains_nothing_when_a_face_is_missing(client, photos):
    black = encoded(np.zeros((90, 120, 3), np.uint8))
    answer = client.post("/v1/verify", json=as_json(photos[0], black, explain=True)).json()
    told = [answer["explanation"][name] for name in ("photo", "branch", "llr", "degree", "support")]
    assert answer["code"] == "no_face_in_photo_b" and told == [None] * 5


def test_explain_answers_a_sheet_to_keep(client, photos, served_pipeline):
    expected = served_pipeline.explain(*photos[:2], threshold="fmr=0.01")
    answer = client.post("/v1/explain", files=form(*photos[:2]), data={"threshold": "fmr=0.01"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Disposition"] == "attachment; filename=explanation.html"
    assert expected.answer.reason.capitalize() in answer.text
    assert expected.support in answer.text and expected.scale in answer.text
    assert answer.text.count('src="data:image/png;base64,') == 2
    code = f'kryptonite_requests_total{{code="{expected.answer.code}",endpoint="/v1/explain"}} 1.0'
    assert code in client.get("/metrics").text


@pytest.mark.parametrize(
    ("address", "field"),
    [("/v1/verify-references", "explain"), ("/v1/gate", "explain"), ("/v1/explain", "crops")],
)
def test_explanation_is_offered_for_pairs_alone(make_client, photos, served_gate, address, field):
    client = make_client(gate=served_gate)
    files = several(*photos[:2]) if "references" in address else form(*photos[:2])
    answer = client.post(address, files=files, data={field: "true"})
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_field")


@pytest.mark.parametrize(
    ("name", "accepted"), [("stored", None), ("fmr=0.1", True), ("fmr=0.01", False)]
)
def test_verify_decides_at_the_threshold_of_the_name(
    client, photos, served_pipeline, name, accepted
):
    expected = served_pipeline.verify(*photos[:2], threshold=name)
    assert accepted is None or expected.accepted is accepted
    fields = {"files": form(*photos[:2]), "data": {"threshold": name}}
    check_answer(client.post("/v1/verify", **fields).json(), expected)
    check_answer(
        client.post("/v1/verify", json=as_json(*photos[:2], threshold=name)).json(), expected
    )


def test_verify_returns_aligned_faces_when_asked(client, photos, served_pipeline):
    expected = served_pipeline.verify(*photos[:2]).photos
    for answer in (
        client.post("/v1/verify", files=form(*photos[:2]), data={"crops": "true"}),
        client.post("/v1/verify", json=as_json(*photos[:2], crops=True)),
    ):
        for photo, facts in zip(answer.json()["photos"], expected, strict=True):
            start, _, content = photo["crop"].partition(",")
            assert start == "data:image/png;base64"
            crop = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
            assert np.array_equal(crop, facts.crop)


def test_verify_gives_no_score_when_a_face_is_missing(client, photos):
    black = encoded(np.zeros((90, 120, 3), np.uint8))
    answer = client.post("/v1/verify", files=form(photos[0], black)).json()
    assert (answer["code"], answer["accepted"]) == ("no_face_in_photo_b", False)
    assert answer["score"] is None and answer["parts"] is None
    assert [photo["status"] for photo in answer["photos"]] == ["found_padded", "centre_crop"]
    assert (answer["photos"][1]["width"], answer["photos"][1]["height"]) == (120, 90)


def test_verify_takes_any_file_name(client, photos):
    names = ["лицо на фото.png", "顔\"'\\..\\/etc/passwd\r\n.png"]
    files = {
        field: (name, photo)
        for field, name, photo in zip(("photo_a", "photo_b"), names, photos, strict=False)
    }
    assert client.post("/v1/verify", files=files).status_code == 200


def several(probe, *references):
    return [("probe", probe), *(("references", each) for each in references)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("threshold", ["stored", "fmr=0.1"])
def test_verify_references_answers_as_the_pipeline_does(
    client, photos, served_pipeline, count, threshold
):
    probe, references = photos[0], photos[1 : 1 + count]
    expected = served_pipeline.verify_references(probe, references, threshold)
    plain = {
        "probe": base64.b64encode(probe).decode(),
        "references": [base64.b64encode(photo).decode() for photo in references],
        "threshold": threshold,
    }
    data = {"threshold": threshold}
    for answer in (
        client.post("/v1/verify-references", files=several(probe, *references), data=data),
        client.post("/v1/verify-references", json=plain),
    ):
        assert answer.status_code == 200, answer.text
        check_answer(answer.json(), expected)
        assert len(answer.json()["photos"]) == 1 + count


def test_verify_references_leaves_out_references_without_a_face(client, photos, served_pipeline):
    black = encoded(np.zeros((90, 120, 3), np.uint8))
    files = several(photos[0], black, *photos[1:3])
    answer = client.post("/v1/verify-references", files=files, data={"crops": "true"}).json()
    check_answer(answer, served_pipeline.verify_references(photos[0], [black, *photos[1:3]]))
    assert [photo["status"] == "centre_crop" for photo in answer["photos"]] == [
        False,
        True,
        False,
        False,
    ]
    assert all(photo["crop"] for photo in answer["photos"])
    none = client.post("/v1/verify-references", files=several(photos[0], black, black)).json()
    assert (none["code"], none["score"]) == ("no_face_in_photo_b", None)
    assert none["reason"] == "refused: no face found in any reference"


def test_verify_references_refuses_several_when_the_run_is_calibrated_for_one(
    make_client, photos, served_pipeline
):
    client = make_client(pipeline=replace(served_pipeline, several={}))
    answer = client.post("/v1/verify-references", files=several(*photos[:3]))
    assert (answer.status_code, answer.json()["code"]) == (422, "references_unsupported")
    assert client.post("/v1/verify-references", files=several(*photos[:2])).status_code == 200
    assert client.get("/v1/info").json()["references"] is None


def test_verify_references_offers_the_thresholds_of_every_number(client, photos):
    offered = client.get("/v1/info").json()["references"]
    assert offered == {"most": 10, "thresholds": ["stored", "fmr=0.1"]}
    call = {"files": several(*photos[:3]), "data": {"threshold": "fmr=0.01"}}
    answer = client.post("/v1/verify-references", **call)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_threshold")
    assert "stored, fmr=0.1." in answer.json()["message"]


def test_gate_answers_as_the_gate_does(make_client, photos, served_gate):
    client = make_client(gate=served_gate)
    expected = served_gate.score(0.4, *photos[:2], threshold="eer")
    for answer in (
        client.post(
            "/v1/gate", files=form(*photos[:2]), data={"similarity": "0.4", "threshold": "eer"}
        ),
        client.post("/v1/gate", json=as_json(*photos[:2], similarity=0.4, threshold="eer")),
    ):
        assert answer.status_code == 200, answer.text
        answer = answer.json()
        assert (answer["accepted"], answer["code"], answer["reason"]) == (
            True,
            "accepted",
            "accepted",
        )
        assert answer["llr"] == pytest.approx(expected.llr, abs=1e-4)
        assert answer["threshold"] == {"name": "eer", "value": -1e6}
        assert answer["similarity"] == 0.4
        assert answer["comparison"] == pytest.approx(expected.comparison, abs=1e-4)
        probabilities = [photo["synthetic_probability"] for photo in answer["photos"]]
        assert probabilities == pytest.approx(expected.synthetic_probability, abs=1e-5)


def test_gate_decides_at_its_first_threshold_unless_told(make_client, photos, served_gate):
    client = make_client(gate=served_gate)
    answer = client.post("/v1/gate", json=as_json(*photos[:2], similarity=-40)).json()
    assert answer["threshold"] == {"name": "fmr=0.01", "value": 1.0}
    assert (answer["accepted"], answer["code"]) == (False, "below_threshold")
    unknown = client.post(
        "/v1/gate", json=as_json(*photos[:2], similarity=0.4, threshold="stored")
    ).json()
    assert unknown["code"] == "unknown_threshold" and "fmr=0.01, eer" in unknown["message"]
    black = encoded(np.zeros((90, 120, 3), np.uint8))
    missing = client.post("/v1/gate", json=as_json(photos[0], black, similarity=9)).json()
    assert (missing["code"], missing["llr"]) == ("no_face_in_photo_b", None)
    assert client.get("/v1/info").json()["gate"] == {
        "fusion": "multinomial",
        "thresholds": [{"name": "fmr=0.01", "value": 1.0}, {"name": "eer", "value": -1e6}],
    }


def test_gate_says_so_when_the_service_has_none(client, photos):
    answer = client.post("/v1/gate", files=form(*photos[:2]), data={"similarity": "0.4"})
    assert (answer.status_code, answer.json()["code"]) == (404, "no_gate")
    assert client.get("/v1/info").json()["gate"] is None


def test_score_image_answers_as_the_detector_does(client, photos, served_pipeline):
    expected = served_pipeline.verify(*photos[:2]).photos[0]
    encoded_photo = base64.b64encode(photos[0]).decode()
    for answer in (
        client.post("/v1/score-image", files={"photo": photos[0]}),
        client.post("/v1/score-image", json={"photo": encoded_photo}),
    ):
        assert answer.status_code == 200
        answer = answer.json()
        assert answer["log_odds"] == pytest.approx(expected.log_odds, abs=1e-4)
        assert answer["synthetic_probability"] == answer["photo"]["synthetic_probability"]
        assert answer["photo"]["status"] == expected.status


def test_info_describes_the_run(client, served_run):
    info = client.get("/v1/info").json()
    assert (info["run"], info["fusion"]) == ("tiny", "llr")
    assert info["card"] == (served_run / "model_card.md").read_text()
    assert [threshold["name"] for threshold in info["thresholds"]] == [
        "stored",
        "fmr=0.1",
        "fmr=0.01",
    ]
    assert info["engines"] == {"recognition": "torch on cpu", "liveness": "torch on cpu"}
    assert {"part": "liveness", "source": "scratch", "licence": info["weights"][2]["licence"]} == (
        info["weights"][2]
    )
    assert info["limits"]["bytes_per_photo"] == 10_000_000


def test_health_and_page_need_no_key_and_the_rest_does(make_client, photos):
    client = make_client(key="схема-1")
    assert client.get("/v1/health").json() == {"status": "ok"}
    assert client.get("/metrics").status_code == client.get("/").status_code == 200
    calls = [
        ("GET", "/v1/info", {}),
        ("GET", "/v1/examples", {}),
        ("GET", "/v1/examples/pair-1/a", {}),
        ("POST", "/v1/verify", {"files": form(*photos[:2])}),
        ("POST", "/v1/explain", {"files": form(*photos[:2])}),
        ("POST", "/v1/verify-references", {"files": several(*photos[:2])}),
        ("POST", "/v1/gate", {"files": form(*photos[:2])}),
        ("POST", "/v1/score-image", {"files": {"photo": photos[0]}}),
    ]
    for method, address, body in calls:
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "wrong"}):
            answer = client.request(method, address, headers=headers, **body)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), address
        answer = client.request(method, address, headers={"X-API-Key": "схема-1".encode()}, **body)
        absent = "pair-1" in address or "gate" in address
        assert answer.status_code == (404 if absent else 200), address


def test_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'self'; img-src 'self' blob: data:"
    )
    linked = re.findall(r"(?:src|href)=\"([^\"#]+)\"", page.text)
    assert linked and all(address.startswith("/") for address in linked)
    assert {client.get(address).status_code for address in linked} == {200}


@pytest.mark.parametrize("path", ["/", "/v1/health", "/v1/info", "/metrics", "/static/style.css"])
def test_head_answers_as_get_does_without_a_body(client, path):
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code == 200 and not head.content
    assert whole.content and head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/static/../app.py", 404, "not_found"),
        ("GET", "/static/%2e%2e/app.py", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/info/", 404, "not_found"),
        ("GET", "/v1/examples/pair-1/c", 404, "not_found"),
        ("GET", "/v1/verify", 405, "method_not_allowed"),
        ("PUT", "/v1/health", 405, "method_not_allowed"),
    ],
)
def test_service_answers_errors_alike_when_address_is_wrong(client, method, address, status, code):
    answer = client.request(method, address)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["message"].endswith(".")


def test_openapi_describes_bodies_answers_and_errors(client):
    api = client.get("/openapi.json").json()
    assert set(api["paths"]) == {
        "/metrics",
        "/v1/health",
        "/v1/info",
        "/v1/examples",
        "/v1/examples/{name}/{side}",
        "/v1/verify",
        "/v1/explain",
        "/v1/verify-references",
        "/v1/gate",
        "/v1/score-image",
    }
    verify = api["paths"]["/v1/verify"]["post"]
    for content in verify["requestBody"]["content"].values():
        options = ["threshold", "crops", "explain"]
        assert list(content["schema"]["properties"]) == ["photo_a", "photo_b", *options]
        assert content["schema"]["required"] == ["photo_a", "photo_b"]
    references = api["paths"]["/v1/verify-references"]["post"]["requestBody"]["content"]
    for content in references.values():
        listed = content["schema"]["properties"]["references"]
        assert (listed["minItems"], listed["maxItems"]) == (1, 10)
        assert content["schema"]["required"] == ["probe", "references"]
    gate = api["paths"]["/v1/gate"]["post"]["requestBody"]["content"]
    for content in gate.values():
        assert content["schema"]["required"] == ["photo_a", "photo_b", "similarity"]
        assert content["schema"]["properties"]["similarity"]["examples"] == [0.63]
    assert {int(status) for status in verify["responses"]} >= {
        status for status, _ in CODES.values()
    }
    schemas = api["components"]["schemas"]
    assert schemas["VerifyAnswer"]["properties"]["code"]["enum"] == list(REASONS)
    assert schemas["ErrorAnswer"]["properties"]["code"]["enum"] == list(CODES)
    assert verify["security"] == [{"APIKeyHeader": []}]
    assert Code.__args__ == tuple(REASONS)


class Held:
    """A pipeline that waits in its first call until it is released."""

    def __init__(self, pipeline):
        self._pipeline, self._lock = pipeline, threading.Lock()
        self.begun, self.release = threading.Event(), threading.Event()
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def verify_many(self, pairs, thresholds=None):
        if thresholds:  # warming up has none
            self.batches.append(len(pairs))
            self.begun.set()
            assert self.release.wait(60)
        return self._pipeline.verify_many(pairs, thresholds)


@pytest.fixture
def held(served_pipeline):
    return Held(served_pipeline)


def wait_for_queue(client, length):
    """Returns once so many requests wait."""
    while f"kryptonite_queue_requests {float(length)}" not in client.get("/metrics").text:
        pass


def test_requests_that_come_together_are_one_batch_and_answered_as_alone(
    make_client, held, photos, served_pipeline
):
    client = make_client(pipeline=held)
    pairs = [(a, b) for a in photos for b in photos if a is not b][:6]
    with ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(client.post, "/v1/verify", files=form(*pairs[0]))]
        assert held.begun.wait(60)
        answers += [
            threads.submit(client.post, "/v1/verify", files=form(*pair)) for pair in pairs[1:]
        ]
        wait_for_queue(client, 5)
        held.release.set()
    assert held.batches == [1, 5]
    for answer, pair in zip(answers, pairs, strict=True):
        check_answer(answer.result().json(), served_pipeline.verify(*pair))
    figures = client.get("/metrics").text
    assert "kryptonite_batch_requests_count 2.0" in figures
    assert "kryptonite_batch_requests_sum 6.0" in figures


def test_requests_of_every_kind_are_answered_in_one_batch(make_client, held, photos, served_gate):
    client = make_client(pipeline=held, gate=served_gate)
    calls = {
        "/v1/verify": {"files": form(*photos[:2])},
        "/v1/verify-references": {"files": several(*photos[:4])},
        "/v1/gate": {"files": form(*photos[:2]), "data": {"similarity": "0.4"}},
        "/v1/score-image": {"files": {"photo": photos[0]}},
    }
    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(client.post, "/v1/verify", files=form(*photos[:2]))
        assert held.begun.wait(60)
        answers = {
            address: threads.submit(client.post, address, **body) for address, body in calls.items()
        }
        wait_for_queue(client, 4)
        held.release.set()
    assert first.result().status_code == 200
    assert "kryptonite_batch_requests_sum 5.0" in client.get("/metrics").text
    assert "kryptonite_batch_requests_count 2.0" in client.get("/metrics").text
    for address, body in calls.items():
        together, alone = answers[address].result().json(), client.post(address, **body).json()
        for answer in (together, alone):
            answer.pop("seconds", None)
        assert together.keys() == alone.keys()
        for name in ("score", "llr", "log_odds"):
            assert together.get(name) == pytest.approx(alone.get(name), abs=1e-4), address


def test_one_broken_photo_fails_no_other_request_of_its_batch(make_client, held, photos):
    client = make_client(pipeline=held)
    pairs = [photos[:2], [photos[0], b"a text and no image"], photos[2:4]]
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(client.post, "/v1/verify", files=form(*photos[:2]))
        assert held.begun.wait(60)
        answers = [threads.submit(client.post, "/v1/verify", files=form(*pair)) for pair in pairs]
        wait_for_queue(client, 3)
        held.release.set()
    assert held.batches == [1, 2]
    assert [answer.result().status_code for answer in (first, *answers)] == [200, 200, 422, 200]


def test_service_answers_503_when_all_places_are_taken(make_client, held, photos):
    client = make_client(pipeline=held, limits=Limits(requests=2))
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(client.post, "/v1/verify", files=form(*photos[:2]))]
        assert held.begun.wait(60)
        answers.append(threads.submit(client.post, "/v1/verify", files=form(*photos[:2])))
        wait_for_queue(client, 1)
        refused = client.post("/v1/verify", files=form(*photos[:2]))
        held.release.set()
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert refused.headers["Retry-After"] == "1"
    assert [answer.result().status_code for answer in answers] == [200, 200]
    assert client.post("/v1/verify", files=form(*photos[:2])).status_code == 200


def test_service_answers_503_when_the_answer_takes_too_long(make_client, held, photos):
    client = make_client(pipeline=held, limits=Limits(answer_seconds=0.05))
    late = client.post("/v1/verify", files=form(*photos[:2]))
    waiting = client.post("/v1/verify", files=form(*photos[:2]))  # is taken out of the queue
    held.release.set()
    for answer in (late, waiting):
        assert (answer.status_code, answer.json()["code"]) == (503, "answer_timeout")
        assert answer.headers["Retry-After"] == "1"


def test_service_answers_500_and_goes_on_when_it_fails(
    make_client, served_pipeline, photos, monkeypatch, caplog
):
    broken = Held(served_pipeline)
    broken.release.set()
    client = make_client(pipeline=broken)
    monkeypatch.setattr(broken, "verify_many", lambda *_: 1 / 0, raising=False)
    answer = client.post("/v1/verify", files=form(*photos[:2]))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert "ZeroDivisionError" in caplog.text and "Content-Security-Policy" in answer.headers
    monkeypatch.undo()
    assert client.post("/v1/verify", files=form(*photos[:2])).status_code == 200


def test_metrics_count_requests_by_the_code_of_their_answer(client, photos):
    answer = client.post("/v1/verify", files=form(*photos[:2])).json()
    for _ in range(2):
        client.post("/v1/verify", files=form(photos[0], b"text"))
    client.post("/v1/score-image", files={"photo": photos[0]})
    client.get("/v1/verify")
    figures = client.get("/metrics").text
    counted = re.findall(
        r"kryptonite_requests_total\{code=\"(\w+)\",endpoint=\"(.+)\"\} (.+)", figures
    )
    assert set(counted) == {
        (answer["code"], "/v1/verify", "1.0"),
        ("unreadable_image", "/v1/verify", "2.0"),
        ("ok", "/v1/score-image", "1.0"),
    }
    assert 'kryptonite_request_seconds_count{endpoint="/v1/verify"} 3.0' in figures


_written = None


def _watch(event, arguments):
    """Notes the files that are opened for writing; an audit hook cannot be removed."""
    if _written is not None and event == "open":
        path, _, flags = arguments
        if flags & 3:  # not read-only
            _written.append(path)


sys.addaudithook(_watch)


def test_uploads_touch_no_disk_and_no_log(client, photos, monkeypatch, caplog, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)
    large = encoded(noise, "BMP")
    assert len(large) > 4e6  # more than any parser keeps in memory by itself
    monkeypatch.setattr(sys.modules[__name__], "_written", [])
    with open("/dev/null", "w"):
        assert _written == ["/dev/null"]  # the hook sees what it should
    _written.clear()
    for answer in (
        client.post("/v1/verify", files=form(large, photos[0])),
        client.post("/v1/verify", json=as_json(large, photos[0])),
        client.post("/v1/verify", files=form(large, b"text")),
    ):
        assert answer.status_code in (200, 422)
    assert _written == []
    assert {record.name for record in caplog.records} <= {"httpx"}  # the client's own
    assert capfd.readouterr() == ("", "")


def test_pixels_decide_how_many_requests_are_one_batch(served_pipeline):
    worker = Worker(served_pipeline, replace(Limits(), batch=4))
    assert worker.weigh(Job((), 100)) == 1 / 4
    assert worker.weigh(Job((), 30_000_000)) == 1 / 2
    assert worker.weigh(Job((("", b""),) * 6, 100)) == 3 / 4
