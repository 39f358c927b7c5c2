"""Trained PyTorch layers as an ONNX file. Needs the packages of the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn


def save_onnx(path: Path, network: nn.Module, channels: int, prepare: Literal["sqrt"] | float) -> None:
    """Write a network as a graph from `counts` (n, channels) of float32 to `output` (n, outputs).

    Parameters
    ----------
    prepare
        What is done to counts first: their square root, or a product with a number.

    Notes
    -----
    The graph is put together from the layers: the exporters of PyTorch need one more package, and a pool
    padded by hand comes out of them wrong.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    weights: list[Any] = []

    def add(kind: str, *inputs: str, **attributes: Any) -> None:
        output = f"step{len(nodes)}"
        nodes.append(helper.make_node(kind, [latest(), *inputs], [output], **attributes))

    def latest() -> str:
        return nodes[-1].output[0] if nodes else "counts"

    def constant(value: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), f"weight{len(weights)}"))
        return str(weights[-1].name)

    if prepare == "sqrt":
        add("Sqrt")
    else:
        add("Mul", constant(np.array(prepare, dtype=np.float32)))
    for layer in network.children():
        kind = type(layer).__name__
        step: Any = layer  # Its attributes are those of its kind.
        if kind == "Unflatten":
            add("Unsqueeze", constant(np.array([1])))
        elif kind == "Conv1d":
            add("Conv", *_weights(step, constant), strides=[*step.stride], pads=[*step.padding] * 2)
        elif kind == "ReLU":
            add("Relu")
        elif kind == "MaxPool1d":
            add(
                "MaxPool",
                kernel_shape=[step.kernel_size],
                strides=[step.stride],
                pads=[step.padding] * 2,
                ceil_mode=int(step.ceil_mode),
            )
        elif kind == "Flatten":
            add("Flatten")
        elif kind == "Linear":
            add("Gemm", *_weights(step, constant), transB=1)
        else:
            raise ValueError(f"no ONNX form is known for the layer {kind}")
    nodes[-1].output[0] = "output"
    graph = helper.make_graph(
        nodes,
        "spectra",
        [helper.make_tensor_value_info("counts", onnx.TensorProto.FLOAT, ["n", channels])],
        [helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ["n", None])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _weights(layer: Any, constant: Any) -> tuple[str, str]:
    return (
        constant(layer.weight.detach().cpu().numpy()),
        constant(layer.bias.detach().cpu().numpy()),
    )
