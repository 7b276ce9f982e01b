"""The same training step as one writes it in JAX and in PyTorch.

Both take the whole sequence through both layers and the classifier, as the public implementations
of the paper do, and leave the gradient to automatic differentiation. They start from the parameters
of a `cliff.Transformer`, so that their gradients can be compared with its own.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import torch

from cliff.task import Task

LAYERS = (1, 2, 3)


def draw_tokens(task: Task, rng: np.random.Generator, size: int):
    """Sequences of fresh classes, one item of each in the context, by vectorised NumPy.

    Returns
    -------
    tokens : ndarray of float32, shape (size, 2N + 1, window + dim)
    answer : ndarray of int, shape (size,)
    """
    n, dim, window = task.n_pairs, task.dim, task.window
    n_tokens = 2 * n + 1
    rows = np.arange(size)
    labels = np.argsort(rng.random((size, task.n_labels), dtype=np.float32), axis=1)[:, :n]
    slot = rng.integers(0, n, size)
    centres = rng.standard_normal((size, n, dim), dtype=np.float32) / np.float32(dim**0.5)
    items = np.concatenate([centres, centres[rows, slot][:, None]], axis=1)
    noise = rng.standard_normal(items.shape, dtype=np.float32) / np.float32(dim**0.5)
    items = (items + np.float32(task.noise) * noise) / np.float32((1 + task.noise**2) ** 0.5)
    tokens = np.zeros((size, n_tokens, window + dim), np.float32)
    start = rng.integers(0, window - n_tokens + 1, size)
    tokens[rows[:, None], np.arange(n_tokens), start[:, None] + np.arange(n_tokens)] = 1
    tokens[:, 0::2, window:] = items
    tokens[:, 1::2, window:] = task.label_vectors[labels]
    return tokens, labels[rows, slot]


def jax_loss(parameters, tokens, answer):
    n_tokens = tokens.shape[1]
    mask = jnp.tril(jnp.ones((n_tokens, n_tokens), bool))
    hidden = tokens
    for layer in (1, 2):
        query = hidden @ parameters[f"Q{layer}"].T
        key = hidden @ parameters[f"K{layer}"].T
        value = hidden @ parameters[f"V{layer}"].T
        scores = jnp.where(mask, jnp.einsum("bid,bjd->bij", query, key), -jnp.inf)
        hidden = hidden + jax.nn.softmax(scores, axis=-1) @ value
    for layer in LAYERS:
        hidden = jax.nn.relu(hidden @ parameters[f"W{layer}"].T + parameters[f"b{layer}"])
    logits = (hidden @ parameters["readout"].T)[:, -1]
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(answer)), answer])


@jax.jit
def jax_update(parameters, tokens, answer, lr, weight_decay):
    loss, gradient = jax.value_and_grad(jax_loss)(parameters, tokens, answer)
    moved = jax.tree.map(lambda p, g: (1 - weight_decay) * p - lr * g, parameters, gradient)
    return moved, loss


def drawn_ahead(task: Task, rng: np.random.Generator, size: int):
    """Batches, each drawn in another thread while the one before is worked on, as ours are."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw_tokens, task, rng, size)
        while True:
            batch = coming.result()
            coming = pool.submit(draw_tokens, task, rng, size)
            yield batch


def jax_step(
    task: Task, parameters: Mapping[str, np.ndarray], size: int, lr: float
) -> Callable[[], object]:
    """One training step after another, each with a fresh batch."""
    batches = drawn_ahead(task, np.random.default_rng(0), size)
    current = {name: jnp.asarray(value) for name, value in parameters.items()}

    def step():
        nonlocal current
        current, loss = jax_update(current, *next(batches), lr, 1e-6)
        return loss.block_until_ready()

    return step


class TorchTransformer(torch.nn.Module):
    def __init__(self, parameters: Mapping[str, np.ndarray]):
        super().__init__()
        for name, value in parameters.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(value)))

    def forward(self, tokens):
        n_tokens = tokens.shape[1]
        hidden_from = torch.triu(torch.ones(n_tokens, n_tokens, dtype=torch.bool), diagonal=1)
        linear = torch.nn.functional.linear
        hidden = tokens
        for layer in (1, 2):
            query = linear(hidden, getattr(self, f"Q{layer}"))
            key = linear(hidden, getattr(self, f"K{layer}"))
            value = linear(hidden, getattr(self, f"V{layer}"))
            scores = (query @ key.transpose(1, 2)).masked_fill(hidden_from, -torch.inf)
            hidden = hidden + torch.softmax(scores, dim=-1) @ value
        for layer in LAYERS:
            weight, bias = getattr(self, f"W{layer}"), getattr(self, f"b{layer}")
            hidden = torch.relu(linear(hidden, weight, bias))
        return linear(hidden, self.readout)[:, -1]


def torch_step(
    task: Task, parameters: Mapping[str, np.ndarray], size: int, lr: float
) -> Callable[[], object]:
    """One training step after another, each with a fresh batch."""
    batches = drawn_ahead(task, np.random.default_rng(0), size)
    net = TorchTransformer(parameters)
    # in torch weight decay comes with the learning rate
    optimiser = torch.optim.SGD(net.parameters(), lr=lr, weight_decay=1e-6 / lr)

    def step():
        tokens, answer = next(batches)
        optimiser.zero_grad(set_to_none=True)
        logits = net(torch.from_numpy(tokens))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(answer))
        loss.backward()
        optimiser.step()
        return loss.item()

    return step
