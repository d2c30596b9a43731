"""A tiny model of YuNet's inputs and outputs, whose faces are green: what OpenCV's detector reads it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_STRIDES = (8, 16, 32)


def green_is_a_face(path: Path) -> Path:
    """Scores are how green each cell of 8, 16 and 32 px is; boxes are the cells, points lie in their corners."""
    green = np.array([-1, 1, -1], np.float32).reshape(1, 3, 1, 1) / 255
    weights = [numpy_helper.from_array(green, "green_weights")]
    nodes = [helper.make_node("Conv", ["input", "green_weights"], ["green"])]
    for stride in _STRIDES:
        shape = numpy_helper.from_array(np.array([1, -1, 1], np.int64), f"shape_{stride}")
        nodes += [
            helper.make_node(
                "AveragePool", ["green"], [f"mean_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2
            ),
            helper.make_node("Relu", [f"mean_{stride}"], [f"score_{stride}"]),
            helper.make_node("Reshape", [f"score_{stride}", f"shape_{stride}"], [f"cls_{stride}"]),
            helper.make_node("Reshape", [f"score_{stride}", f"shape_{stride}"], [f"obj_{stride}"]),
        ]
        weights.append(shape)
        for name, count in (("bbox", 4), ("kps", 10)):
            weights.append(numpy_helper.from_array(np.zeros((1, 1, count), np.float32), f"{name}_zero_{stride}"))
            nodes.append(helper.make_node("Mul", [f"cls_{stride}", f"{name}_zero_{stride}"], [f"{name}_{stride}"]))
    outputs = [
        helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, [1, None, count])
        for name, count in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        for stride in _STRIDES
    ]
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "faces", [picture], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path
