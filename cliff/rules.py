"""Rules of motion: how theta follows the force −M ∂loss/∂theta of a landscape.

A rule is data for the compiled loop. Its state has, behind the p rows of theta, rows of its own,
which start at zero. M are the mobilities, and time is gradient-flow time: a step of gradient
descent with the learning rate h takes the time h.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from cliff.checks import ArgumentError, integer, real
from cliff.kernels.integrate import ADAM, GRADIENT, LANGEVIN, MOMENTUM


@dataclass(frozen=True)
class Rule:
    """A rule of motion.

    Attributes
    ----------
    code : int
        Its code in the compiled loop.
    copies : int
        Rows of the state for each component of theta.
    """

    code: ClassVar[int] = GRADIENT
    copies: ClassVar[int] = 1

    @property
    def numbers(self) -> tuple[float, ...]:
        """What the compiled loop gets."""
        return ()

    def settings(self) -> dict[str, Any]:
        """The rule as it is written to a file: empty for gradient flow."""
        return {"rule": type(self).__name__.lower(), **asdict(self)}


@dataclass(frozen=True)
class Gradient(Rule):
    """Gradient flow, d theta/dt = −M ∂loss/∂theta."""

    def settings(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Momentum(Rule):
    """Heavy-ball momentum: the velocity relaxes to the gradient flow's at the rate `friction`,

        d theta/dt = v,    dv/dt = friction·(−M ∂loss/∂theta − v),    v(0) = 0.

    This is a particle of mass 1/friction and unit drag. As the friction grows, theta approaches the
    gradient flow with an error of the order 1/friction. Gradient descent with the learning rate h
    and momentum b, whose velocities are a running mean with weights b and 1 − b, is this flow for
    friction = −log(b)/h and small h.

    Parameters
    ----------
    friction : float
        Above 0 (1/gradient-flow time).
    """

    friction: float
    code: ClassVar[int] = MOMENTUM
    copies: ClassVar[int] = 2

    def __post_init__(self) -> None:
        friction = real("friction", self.friction, 0.0, exclusive=True)
        object.__setattr__(self, "friction", friction)

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.friction,)


@dataclass(frozen=True)
class Adam(Rule):
    """Adam in continuous time. With g = ∂loss/∂theta and the rates a_i = −log(beta_i)/lr,

        dm/dt = a_1·(g − m),    ds/dt = a_2·(g² − s),    m(0) = s(0) = 0,
        d theta/dt = −M m'/(√s' + epsilon),

    where m' = m/(1 − e^(−a_1·t)) and s' = s/(1 − e^(−a_2·t)) are corrected for the start at zero;
    at t = 0 they are g and g². A step of Adam with the learning rate `lr` takes the time lr, and
    Adam is Euler's method with this step.

    Parameters
    ----------
    lr : float
        Learning rate of the algorithm that is meant, which sets the two rates.
    beta1, beta2 : float
        Its decay of the two moments in a step, strictly between 0 and 1.
    epsilon : float
        At least 0. With 0 a component whose gradient vanishes at the start is not finite.
    """

    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    code: ClassVar[int] = ADAM
    copies: ClassVar[int] = 3

    def __post_init__(self) -> None:
        for name, limits in (
            ("lr", (0.0, math.inf)),
            ("beta1", (0.0, 1.0)),
            ("beta2", (0.0, 1.0)),
        ):
            object.__setattr__(self, name, real(name, getattr(self, name), *limits, exclusive=True))
        object.__setattr__(self, "epsilon", real("epsilon", self.epsilon, 0.0))

    @property
    def numbers(self) -> tuple[float, ...]:
        return -math.log(self.beta1) / self.lr, -math.log(self.beta2) / self.lr, self.epsilon


@dataclass(frozen=True)
class Langevin(Rule):
    """Overdamped Langevin dynamics, by the Euler–Maruyama method with a fixed step:

        d theta_i = −M_i ∂loss/∂theta_i dt + √(2·M_i·temperature) dW_i.

    For constant mobilities the stationary density is exp(−loss/temperature), up to an error of the
    order of the step: in a well k·theta²/2 the variance is temperature/(k·(1 − M·k·step/2)). A
    mobility function is taken at the start of each step (the integral is Itô's). Gradient descent
    on minibatches has this form for noise in the gradient of variance 2·temperature/(M·step).

    The noise is a function of (seed, trajectory, step, component), so that an ensemble does not
    depend on threads, and trajectory 0 of an ensemble is that of `integrate`. The method has to be
    "euler".

    Parameters
    ----------
    temperature : float
        At least 0 (nats).
    seed : int
        From 0 to 2^53.
    """

    temperature: float
    seed: int = 0
    code: ClassVar[int] = LANGEVIN

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", real("temperature", self.temperature, 0.0))
        object.__setattr__(self, "seed", integer("seed", self.seed, 0))

    @property
    def numbers(self) -> tuple[float, ...]:
        return (self.temperature,)


def check_rule(rule: object, method: str) -> Rule:
    """The rule, if it goes with the method, or ArgumentError."""
    if not isinstance(rule, Rule):
        raise ArgumentError("rule", rule, "must be Gradient(), Momentum(…), Adam(…) or Langevin(…)")
    if isinstance(rule, Langevin) and method != "euler":
        raise ArgumentError("method", method, "must be euler, whose step Langevin dynamics needs")
    return rule
