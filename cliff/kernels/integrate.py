"""Gradient flow in compiled code: one loop for every Runge-Kutta stepper."""

import math

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic
from numba.np.unsafe.ndarray import to_fixed_tuple

from cliff.kernels import entry
from cliff.kernels.nested_logit import evaluate, workspace

RUNNING, DONE, STEP_LIMIT, STEP_TOO_SMALL, NOT_FINITE, MOBILITY = range(6)
"""Status of a trajectory. RUNNING: the call's budget of steps is used up; call again to go on."""

SAFETY, SHRINK, GROW = 0.75, 0.2, 10.0
"""The next step is SAFETY·(1/error)^(1/order) times the last, within SHRINK and GROW times it. A
larger SAFETY saves few steps and has several times as many rejected, since the flow speeds up."""


@intrinsic
def _call_mobility(typing_context, address, theta, arguments, mobility):
    """Call the C function at `address` that `compile_mobility` made; arguments are an address too.

    One more array among the arguments of `_velocity` would slow ensembles by some percent.
    """

    def lower(context, builder, signature, values):
        theta, mobility = (
            context.make_array(signature.args[i])(context, builder, values[i]).data for i in (1, 3)
        )
        arguments = builder.inttoptr(values[2], theta.type)
        function = ir.FunctionType(ir.VoidType(), [theta.type] * 3)
        pointer = builder.inttoptr(values[0], function.as_pointer())
        builder.call(pointer, [theta, arguments, mobility])
        return context.get_dummy_value()

    return types.void(types.intp, theta, types.intp, mobility), lower


def compile_mobility(function, p, n_arguments):
    """Compile mobility(theta, *arguments) to a C function.

    Its signature is ``void (const double *theta, const double *arguments, double *mobility)``. The
    Python function gets a copy of theta. Where it raises, or returns what is negative or not
    finite, the p mobilities become NaN, and theta is written to ``mobility[4:4 + p]``, unless that
    holds the theta of an earlier failure (is not NaN) or theta itself is not finite.

    Parameters
    ----------
    function : callable
        Takes theta (p,) and numbers, and returns p numbers.
    p : int
        3 or 4.
    n_arguments : int

    Raises
    ------
    numba.core.errors.NumbaError
        If the function does not compile or does not return p numbers.
    """
    compiled = function if hasattr(function, "py_func") else njit(function)
    pointer = types.CPointer(types.float64)

    @njit
    def call(theta, arguments):  # numba unpacks no tuple within a try
        return compiled(theta, *to_fixed_tuple(arguments, n_arguments))

    @cfunc(types.void(pointer, pointer, pointer))
    def wrapper(theta, arguments, mobility):
        valid, finite = True, True
        try:
            m = call(carray(theta, p).copy(), carray(arguments, n_arguments))
            # entry by entry, since they may be of different types
            mobility[0], mobility[1], mobility[2] = m[0], m[1], m[2]
            if p == 4:
                mobility[3] = m[3]
        except Exception:
            valid = False
        for i in range(p):
            valid = valid and 0.0 <= mobility[i] < math.inf
            finite = finite and math.isfinite(theta[i])
        if not valid:
            note = finite and math.isnan(mobility[4])
            for i in range(p):
                mobility[i] = math.nan
                if note:
                    mobility[4 + i] = theta[i]

    return wrapper


@njit
def _velocity(
    positions, n, p, n_absent, theta, mobility, address, arguments, with_loss, work, out, k, stage
):
    """Write −M ∂loss/∂theta to k[stage] and return the loss, if it is asked for."""
    evaluate(
        positions, n, n_absent, theta[0], theta[1], theta[2], theta[3], with_loss, work, out, None
    )  # fmt: skip
    if address != 0:
        _call_mobility(address, theta, arguments, mobility)
    for i in range(p):
        k[stage, i] = -mobility[i] * out[i + 1]
    return out[0]


@njit
def _dense_output(p, step, k, weights, dense):
    """Write the coefficients of the path by powers 1, 2, … of the fraction of the step."""
    for i in range(p):
        for d in range(weights.shape[1]):
            value = 0.0
            for j in range(weights.shape[0]):
                value += weights[j, d] * k[j, i]
            dense[i, d] = value * step


@njit
def _locate(positions, n, p, level, y, dense, loss_0, loss_1, n_absent, theta, work, out):
    """Fraction of the step at which the loss on the dense output falls to `level`.

    Found by the Illinois method (regula falsi), with a bisection wherever three rounds have not
    halved the bracket.
    """
    low, high = 0.0, 1.0
    above, below = loss_0 - level, loss_1 - level
    checked, side = 1.0, 0
    for attempt in range(100):
        width = high - low
        if width <= 1e-14 or below == 0.0:
            break
        sigma = low + width * above / (above - below)
        if attempt % 3 == 2:
            if width > 0.5 * checked:
                sigma = 0.5 * (low + high)
            checked = width
        if not low < sigma < high:
            break  # neighbours in floating point
        theta[:] = y
        for i in range(p):
            value = 0.0
            for d in range(dense.shape[1] - 1, -1, -1):
                value = (value + dense[i, d]) * sigma
            theta[i] += value
        evaluate(
            positions, n, n_absent, theta[0], theta[1], theta[2], theta[3], True, work, out, None
        )  # fmt: skip
        difference = out[0] - level
        if abs(difference) <= 1e-13 * level:
            return sigma
        if difference > 0.0:
            low, above = sigma, difference
            below *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            high, below = sigma, difference
            above *= 0.5 if side == -1 else 1.0
            side = -1
    return high


@entry
def integrate_batch(
    positions,
    n,
    p,
    n_absent,
    mobility,
    mobility_address,
    mobility_arguments,
    levels,
    tableau,
    order,
    step,
    rtol,
    atol,
    t_end,
    max_steps,
    budget,
    theta,
    t,
    h,
    crossings,
    loss,
    n_steps,
    n_rejected,
    status,
    failed_at,
    record_t,
    record_theta,
    record_loss,
    record_dense,
):
    """Integrate m trajectories of one N, one after the other, from their state to t_end.

    Parameters
    ----------
    positions, n : int
        As in `cliff.kernels.nested_logit.evaluate`.
    p : int
        Components that move, 3 or 4.
    n_absent : float64 array, shape (m,)
        L − N.
    mobility : float64 array, shape (m, 4)
        Constant mobilities.
    mobility_address : int
        Address of a C function that `compile_mobility` made, or 0 for the constant mobilities.
    mobility_arguments : float64 array, shape (m, n_arguments)
        Arguments of that function beside theta.
    levels : float64 array, shape (m, K)
        Losses (nats) whose first crossing from above is located.
    tableau : tuple of float64 arrays
        a (S, S), error weights (S,), dense output (S, D); the last stage is the new point.
    order : int
        Order of the method.
    step : float
        Fixed step, or 0 for an adaptive one.
    rtol, atol, t_end : float
    max_steps : int
        Limit on the accepted steps of a trajectory.
    budget : int
        Limit on the attempted steps of a trajectory in this call.
    theta, t, h, crossings, loss, n_steps, n_rejected, status, failed_at : arrays, (m, …), in/out
        The state of every trajectory: t (gradient-flow time), next step h (0: choose), times of the
        crossings (NaN: not yet), loss (nats), counts, status, and theta where the mobility failed.
    record_t, record_theta, record_loss, record_dense : arrays
        Receive step n_steps of the only trajectory; of length 0 to record nothing.
    """
    a, error_weights, dense_weights = tableau
    stages, degree = dense_weights.shape
    recording = record_t.shape[0] > 0
    work, out = np.empty(workspace(n)), np.empty(5)
    y, y_new, trial, mobilities = np.empty(4), np.empty(4), np.empty(4), np.empty(8)
    k, dense = np.zeros((stages, 4)), np.zeros((4, degree))
    for index in range(theta.shape[0]):
        if status[index] != RUNNING:
            continue
        y[:] = theta[index]
        y_new[:] = y
        mobilities[:4], mobilities[4:] = mobility[index], math.nan
        arguments = mobility_arguments.ctypes.data + index * mobility_arguments.strides[0]
        now_loss = _velocity(
            positions, n, p, n_absent[index], y, mobilities, mobility_address, arguments,
            True, work, out, k, 0,
        )  # fmt: skip
        if n_steps[index] == 0:
            loss[index] = now_loss
            for level in range(levels.shape[1]):
                if now_loss <= levels[index, level]:
                    crossings[index, level] = 0.0
            if step == 0.0 and h[index] == 0.0:
                # logits change by about rtol^(1/order), where 1 is their own scale
                speed = 1e-100
                for i in range(p):
                    speed = max(speed, abs(k[0, i]))
                h[index] = min(t_end, rtol ** (1.0 / order) / speed)
            if recording:
                record_t[0], record_loss[0] = 0.0, now_loss
                record_theta[0] = y
        if step > 0.0:
            h[index] = step

        rejected = False
        attempts = 0
        # the budget cannot end after a rejection, which the arrays do not record
        while status[index] == RUNNING and (attempts < budget or rejected):
            attempts += 1
            left = t_end - t[index]
            arriving = h[index] * (1.0 + 1e-10) >= left
            width = left if arriving else h[index]
            new_loss = 0.0
            mobilities[4] = math.nan
            for stage in range(1, stages):
                for i in range(p):
                    slope = 0.0
                    for j in range(stage):
                        slope += a[stage, j] * k[j, i]
                    y_new[i] = y[i] + width * slope
                new_loss = _velocity(
                    positions, n, p, n_absent[index], y_new, mobilities, mobility_address,
                    arguments, stage == stages - 1, work, out, k, stage,
                )  # fmt: skip
            finite = math.isfinite(new_loss)
            for i in range(p):
                finite = finite and math.isfinite(y_new[i]) and math.isfinite(k[stages - 1, i])
            failure = NOT_FINITE if math.isnan(mobilities[4]) else MOBILITY

            norm = 0.0
            if step == 0.0 and finite:
                for i in range(p):
                    error = 0.0
                    for j in range(stages):
                        error += error_weights[j] * k[j, i]
                    scale = atol + rtol * max(abs(y[i]), abs(y_new[i]))
                    norm += (width * error / scale) ** 2
                norm = math.sqrt(norm / p)
            if step == 0.0 and not (finite and norm <= 1.0):
                rejected = True
                n_rejected[index] += 1
                usable = finite and math.isfinite(norm)
                h[index] = width * (
                    max(SHRINK, SAFETY * norm ** (-1.0 / order)) if usable else SHRINK
                )
                if t[index] + h[index] <= t[index] * (1.0 + 1e-15):
                    status[index] = STEP_TOO_SMALL if finite else failure
                continue
            if not finite:
                status[index] = failure
                continue

            crossed = False
            for level in range(levels.shape[1]):
                if math.isnan(crossings[index, level]) and new_loss <= levels[index, level]:
                    crossed = True
            if recording or crossed:
                _dense_output(p, width, k, dense_weights, dense)
            if crossed:
                for level in range(levels.shape[1]):
                    if math.isnan(crossings[index, level]) and new_loss <= levels[index, level]:
                        fraction = _locate(
                            positions, n, p, levels[index, level], y, dense, loss[index], new_loss,
                            n_absent[index], trial, work, out,
                        )  # fmt: skip
                        crossings[index, level] = t[index] + fraction * width

            n_steps[index] += 1
            if arriving:
                t[index] = t_end
            else:  # a sum of many equal steps would drift
                t[index] = n_steps[index] * step if step > 0.0 else t[index] + width
            loss[index] = new_loss
            for i in range(p):
                y[i] = y_new[i]
                k[0, i] = k[stages - 1, i]
            if recording:
                row = n_steps[index]
                record_t[row], record_loss[row] = t[index], new_loss
                record_theta[row] = y
                record_dense[row - 1] = dense
            if arriving:
                status[index] = DONE
            elif n_steps[index] >= max_steps:
                status[index] = STEP_LIMIT
            if step == 0.0:
                factor = SAFETY * max(norm, 1e-10) ** (-1.0 / order)
                h[index] = width * min(1.0 if rejected else GROW, max(SHRINK, factor))
                rejected = False
        theta[index] = y
        failed_at[index] = mobilities[4:]
