"""The landscape and its flow as one would write them in JAX and diffrax."""

import diffrax
import jax
import jax.numpy as jnp

jax.config.update("jax_enable_x64", True)


def make_loss(n, labels):
    """Loss of theta (3,) for exact positions."""
    number = jnp.arange(1, n + 1)
    slot = number[:, None]

    def loss(theta):
        beta1, alpha, xi = theta
        boost = jnp.exp(beta1)
        label = jnp.where(
            number == slot,
            boost / (boost + 2 * number - 1),
            jnp.where(number > slot, 1 / (boost + 2 * number - 1), 0.0),
        )
        item = jnp.where(number >= slot, 1 / (boost + 2 * number - 2), 0.0)
        item = item.at[0, 0].set(1.0)
        target = jnp.full((n, 1), 2 / (boost + 2 * n))
        q = jax.nn.softmax(alpha * jnp.concatenate([label, item, target], axis=1), axis=1)[:, :n]
        logits = xi * q
        if labels > n:
            rest = jnp.full((n, 1), jnp.log(labels - n))
            normaliser = jax.nn.logsumexp(jnp.concatenate([logits, rest], axis=1), axis=1)
        else:
            normaliser = jax.nn.logsumexp(logits, axis=1)
        return jnp.mean(normaliser - jnp.diagonal(logits))

    return loss


def value_and_gradient(n, labels):
    return jax.jit(jax.vmap(jax.value_and_grad(make_loss(n, labels))))


def solver(n, labels, t_end, rtol, atol, saveat=None):
    """`solver_of` the loss of exact positions."""
    return solver_of(make_loss(n, labels), t_end, rtol, atol, saveat)


def solver_of(loss, t_end, rtol, atol, saveat=None):
    """theta(t_end) of a start theta0 (p,): Dopri5 with the PID controller's defaults."""
    gradient = jax.grad(loss)
    term = diffrax.ODETerm(lambda t, theta, args: -gradient(theta))

    def solve(theta0):
        return diffrax.diffeqsolve(
            term,
            diffrax.Dopri5(),
            0.0,
            t_end,
            None,
            theta0,
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=100_000,
        ).ys[0]

    return solve
