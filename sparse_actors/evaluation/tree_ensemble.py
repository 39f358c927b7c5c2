"""Trees of scikit-learn as an ONNX file. Needs the package onnx, of the extra `train`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def onnx_bytes(model: Any, calibration: tuple[float, float], metadata: dict[str, str]) -> bytes:
    """Return the graph `features` (n, f) -> `score` (n,): the trees, a straight line, the logistic function.

    Parameters
    ----------
    model
        A fitted HistGradientBoostingClassifier of two classes, of numbers without gaps.
    calibration
        (slope, offset) of the line through which the sum of the trees goes (Platt 1999).
    metadata
        Kept in the file.

    Notes
    -----
    The operator TreeEnsembleRegressor of ai.onnx.ml compares float32. A threshold is rounded down to one, so
    that no float32 feature changes sides.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    attributes: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids nodes_nodeids nodes_featureids nodes_values nodes_modes nodes_truenodeids "
            "nodes_falsenodeids target_treeids target_nodeids target_ids target_weights"
        ).split()
    }
    # scikit-learn keeps its trees in private attributes; there is no other way to them.
    for tree, (predictor,) in enumerate(model._predictors):  # noqa: SLF001
        nodes = predictor.nodes
        attributes["nodes_treeids"] += [tree] * len(nodes)
        attributes["nodes_nodeids"] += range(len(nodes))
        is_leaf = nodes["is_leaf"].astype(bool)
        attributes["nodes_modes"] += np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist()
        attributes["nodes_featureids"] += np.where(is_leaf, 0, nodes["feature_idx"]).tolist()
        thresholds = np.where(is_leaf, 0.0, nodes["num_threshold"])
        attributes["nodes_values"] += _rounded_down(thresholds).tolist()
        attributes["nodes_truenodeids"] += np.where(is_leaf, 0, nodes["left"]).tolist()
        attributes["nodes_falsenodeids"] += np.where(is_leaf, 0, nodes["right"]).tolist()
        leaves = np.flatnonzero(is_leaf)
        attributes["target_treeids"] += [tree] * len(leaves)
        attributes["target_nodeids"] += leaves.tolist()
        attributes["target_ids"] += [0] * len(leaves)
        attributes["target_weights"] += nodes["value"][leaves].tolist()
    offset = float(np.ravel(model._baseline_prediction)[0])  # noqa: SLF001
    slope, shift = calibration
    steps = [
        helper.make_node(
            "TreeEnsembleRegressor",
            ["features"],
            ["sum"],
            domain="ai.onnx.ml",
            n_targets=1,
            base_values=[offset],
            **attributes,
        ),
        helper.make_node("Mul", ["sum", "slope"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["column"]),
        helper.make_node("Reshape", ["column", "flat"], ["score"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([slope], np.float32), "slope"),
        numpy_helper.from_array(np.array([shift], np.float32), "shift"),
        numpy_helper.from_array(np.array([-1], np.int64), "flat"),
    ]
    graph = helper.make_graph(
        steps,
        "scorer",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", model.n_features_in_])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        constants,
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=versions, ir_version=8)
    helper.set_model_props(made, metadata)
    onnx.checker.check_model(made, full_check=True)
    return bytes(made.SerializeToString())


def _rounded_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each value."""
    single = values.astype(np.float32)
    low: NDArray[np.float32] = np.where(
        single > values, np.nextafter(single, np.float32(-np.inf), dtype=np.float32), single
    )
    return low
