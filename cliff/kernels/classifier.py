"""The classifier's passes: three rectified layers, a linear readout, cross-entropy."""

import numpy as np

from cliff.kernels import compiled
from cliff.kernels.network import cross_entropy, rectify, rectify_backward


@compiled
def classify(features, weights):
    """Logits, (B, L), and the outputs of the three hidden layers, (B, width) each."""
    layer1 = rectify(np.dot(features, weights.W1.T), weights.b1)  # (B, width)
    layer2 = rectify(np.dot(layer1, weights.W2.T), weights.b2)  # (B, width)
    layer3 = rectify(np.dot(layer2, weights.W3.T), weights.b3)  # (B, width)
    return np.dot(layer3, weights.readout.T), (layer1, layer2, layer3)  # (B, L)


@compiled
def loss_and_slope(features, answer, size, weights, slopes):
    """Cross-entropy summed and divided by `size`, and its gradient with respect to the features.

    The gradient with respect to each parameter of the classifier overwrites its field of `slopes`.
    """
    logits, (layer1, layer2, layer3) = classify(features, weights)
    loss, slope = cross_entropy(logits, answer, size)  # (B, L)
    np.dot(slope.T, layer3, slopes.readout)
    slope = rectify_backward(np.dot(slope, weights.readout), layer3, slopes.b3)  # (B, width)
    np.dot(slope.T, layer2, slopes.W3)
    slope = rectify_backward(np.dot(slope, weights.W3), layer2, slopes.b2)  # (B, width)
    np.dot(slope.T, layer1, slopes.W2)
    slope = rectify_backward(np.dot(slope, weights.W2), layer1, slopes.b1)  # (B, width)
    np.dot(slope.T, features, slopes.W1)
    return loss, np.dot(slope, weights.W1)  # (B, n_features)
