"""The service in this process, on a run with untrained networks."""

import io
from contextlib import ExitStack
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from kryptonite.inference.gate import MatcherGate
from kryptonite.runs.gate import load_gate
from kryptonite.runs.load import load
from kryptonite.serve.about import describe
from kryptonite.serve.app import create_app
from kryptonite.serve.limits import Limits
from tests.tiny import write_gate, write_run


@pytest.fixture(scope="session")
def served_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("serve") / "tiny")


@pytest.fixture(scope="session")
def served_pipeline(served_run, tmp_path_factory):
    pipeline = load(served_run, cache=tmp_path_factory.mktemp("cache"), device="cpu")
    verifier = replace(pipeline.verifier, at_fmr={"fmr=0.1": -1e6, "fmr=0.01": 1e6})
    several = {
        count: replace(each, at_fmr={"fmr=0.1": -1e6}) for count, each in pipeline.several.items()
    }
    return replace(pipeline, verifiers={pipeline.chosen: verifier}, several=several)


@pytest.fixture(scope="session")
def gate_file(served_run, tmp_path_factory):
    return write_gate(tmp_path_factory.mktemp("gate") / "gate.json", served_run)


@pytest.fixture(scope="session")
def served_gate(gate_file, served_run, served_pipeline):
    gate = load_gate(gate_file, served_run, gate_file.parent / "cache", "cpu")
    return MatcherGate(served_pipeline, gate.fuser, {**gate.thresholds, "eer": -1e6})


@pytest.fixture
def make_app(served_run, served_pipeline):
    """Makes the application with given limits, key, pipeline or gate."""

    def make(limits=None, key="", pipeline=served_pipeline, gate=None):
        limits = limits or Limits()
        about = describe(served_run, pipeline, limits, gate)
        return create_app(pipeline, about, limits, key, gate)

    return make


@pytest.fixture
def make_client(make_app):
    """Starts the service with given limits, key, pipeline or gate, and gives a client of it."""
    with ExitStack() as stack:

        def make(**options):
            app = make_app(**options)
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield make


@pytest.fixture
def client(make_client):
    return make_client()


def encoded(pixels, kind="PNG", **options):
    """An array as an image file's bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def photos(faces):
    """Files of four generated people."""
    return [encoded(face) for face in faces[:4]]
