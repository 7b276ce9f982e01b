"""The flow on a landscape in compiled code: one loop for every landscape, stepper and rule.

The loop calls the landscape's evaluation behind an address (see `cliff.kernels.generated`) and
steps `len(lanes)` trajectories side by side: one, or LANES, whose numbers are packs then. Both are
compiled from this source; the type of `lanes` decides. Arrays named by row hold row i of lane l at
i·len(lanes) + l. A lane whose trajectory has ended goes on with the next one.

A state has the p rows of theta first and the rows of the rule behind them; see `cliff.rules`.
"""

import ctypes
import math
from functools import cache
from struct import Struct

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic, overload
from numba.np.unsafe.ndarray import to_fixed_tuple

from cliff.kernels import simd
from cliff.kernels.generated import address_of_kernel, advanced, evaluate_at
from cliff.kernels.philox import normal
from cliff.kernels.simd import LANES, PackType, pack

RUNNING, DONE, STEP_LIMIT, STEP_TOO_SMALL, NOT_FINITE, MOBILITY, EVENT = range(7)
"""Status of a trajectory. RUNNING: the call's budget of steps is used up; call again to go on."""

GRADIENT, MOMENTUM, ADAM, LANGEVIN = range(4)
"""Rules of motion; see `cliff.rules`."""

SAFETY, SHRINK, GROW = 0.75, 0.2, 10.0
"""The next step is SAFETY·(1/error)^(1/order) times the last, within SHRINK and GROW times it. A
larger SAFETY saves few steps and has several times as many rejected, since the flow speeds up."""

ONE_LANE, ALL_LANES = (0.0,), (0.0,) * LANES
"""The argument `lanes` of the loop, whose length is part of its type."""


@intrinsic
def _call_mobility(typing_context, address, theta, arguments, mobility):
    """Call the C function at `address` that `compile_mobility` made."""

    def lower(context, builder, signature, values):
        data = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args[1:], values[1:], strict=True)
        ]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in data])
        builder.call(builder.inttoptr(values[0], function.as_pointer()), data)
        return context.get_dummy_value()

    return types.void(types.intp, theta, arguments, mobility), lower


def compile_mobility(function, p, n_arguments):
    """Compile mobility(theta, *arguments) to a C function.

    Its signature is ``void (const double *theta, const double *arguments, double *mobility)``. The
    Python function gets a copy of theta. Where it raises, or returns what is negative or not
    finite, the p mobilities become NaN, and theta is written to ``mobility[p:2 * p]``, unless that
    holds the theta of an earlier failure (is not NaN) or theta itself is not finite.

    Parameters
    ----------
    function : callable
        Takes theta (p,) and numbers, and returns p numbers.
    p : int
    n_arguments : int

    Raises
    ------
    numba.core.errors.NumbaError
        If the function does not compile or does not return p numbers.
    """
    compiled = function if hasattr(function, "py_func") else njit(function)
    pointer = types.CPointer(types.float64)
    write = _entries(p)

    @njit
    def call(theta, arguments):  # numba unpacks no tuple within a try
        return compiled(theta, *to_fixed_tuple(arguments, n_arguments))

    @cfunc(types.void(pointer, pointer, pointer))
    def wrapper(theta, arguments, mobility):
        valid, finite = True, True
        try:
            write(call(carray(theta, p).copy(), carray(arguments, n_arguments)), mobility)
        except Exception:
            valid = False
        for i in range(p):
            valid = valid and 0.0 <= mobility[i] < math.inf
            finite = finite and math.isfinite(theta[i])
        if not valid:
            note = finite and math.isnan(mobility[p])
            for i in range(p):
                mobility[i] = math.nan
                if note:
                    mobility[p + i] = theta[i]

    return wrapper


def _entries(count):
    """A function that writes entries 0 … count − 1, which may be of different types."""
    if count == 0:
        return njit(lambda values, out: None)
    before, last = _entries(count - 1), count - 1

    @njit
    def write(values, out):
        if len(values) < count:  # an array, whose length is not known before
            raise ValueError
        before(values, out)
        out[last] = values[last]

    return write


# ---- numbers or packs, as the lanes say ----------------------------------------------------------


def _row(context, builder, signature, arguments):
    """Pointer to a row of a contiguous array, and the type of what stands there."""
    count = signature.args[-1].count
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    at = builder.gep(data, [builder.mul(arguments[1], ir.Constant(arguments[1].type, count))])
    return at if count == 1 else builder.bitcast(at, simd._DOUBLES.as_pointer())


@intrinsic
def _load(typing_context, array, row, lanes):
    def lower(context, builder, signature, arguments):
        return builder.load(_row(context, builder, signature, arguments), align=8)

    return (types.float64 if lanes.count == 1 else pack)(array, types.intp, lanes), lower


@intrinsic
def _store(typing_context, array, row, value, lanes):
    def lower(context, builder, signature, arguments):
        at = _row(context, builder, signature, arguments)
        builder.store(arguments[2], at, align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value, lanes), lower


def _splat(number, lanes):
    """The number, or a pack of it."""


def _larger_size(a, b):
    """The larger of |a| and |b|."""


@overload(_splat)
def _overload_splat(number, lanes):
    return (lambda number, lanes: number) if lanes.count == 1 else (
        lambda number, lanes: simd.splat(number)
    )  # fmt: skip


@overload(_larger_size)
def _overload_larger_size(a, b):
    if not isinstance(a, PackType):
        return lambda a, b: max(abs(a), abs(b))

    def of_packs(a, b):
        a, b = simd.absolute(a), simd.absolute(b)
        return simd.where_above(a, b, a, b)

    return of_packs


# ---- parts of a step -----------------------------------------------------------------------------


@njit
def _copy(source, target):
    for i in range(target.size):
        target[i] = source[i]


@njit
def _slopes(rule, settings, p, time, y, out, mobility, lanes, lane, k, start):
    """Write the slopes of one lane's state to k from entry `start` on; see `cliff.rules`."""
    n = len(lanes)
    for i in range(p):
        row, moment, square = i * n + lane, (p + i) * n + lane, (2 * p + i) * n + lane
        gradient = out[n + row]
        force = -mobility[row] * gradient
        if rule == MOMENTUM:
            k[start + row] = y[moment]
            k[start + moment] = settings[0] * (force - y[moment])
        elif rule == ADAM:
            mean, mean_square = gradient, gradient * gradient
            k[start + moment] = settings[0] * (mean - y[moment])
            k[start + square] = settings[1] * (mean_square - y[square])
            if time > 0.0:
                mean = y[moment] / -math.expm1(-settings[0] * time)
                mean_square = max(y[square], 0.0) / -math.expm1(-settings[1] * time)
            k[start + row] = -mobility[row] * mean / (math.sqrt(mean_square) + settings[2])
        else:
            k[start + row] = force


@njit
def _mobility_at(address, p, arguments, point, values, mobility, lanes, lane):
    """Call a mobility function for one lane, whose theta (p,) is at `point`."""
    _call_mobility(address, point, arguments, values)
    for i in range(p):
        mobility[i * len(lanes) + lane] = values[i]


@njit
def _dense_output(p, step, k, weights, dense, rows, lanes, lane):
    """Write one lane's path by powers 1, 2, … of the fraction of the step."""
    n = len(lanes)
    for i in range(p):
        for d in range(weights.shape[1]):
            value = 0.0
            for j in range(weights.shape[0]):
                value += weights[j, d] * k[(j * rows + i) * n + lane]
            dense[i, d] = value * step


@njit
def _on_path(start, dense, sigma, point):
    """Write the point at a fraction sigma of the step to `point`."""
    for i in range(dense.shape[0]):
        value = 0.0
        for d in range(dense.shape[1] - 1, -1, -1):
            value = (value + dense[i, d]) * sigma
        point[i] = start[i] + value


@njit
def _event_value(event, p, levels, out, n, lane):
    """The value of an event from an evaluation: the built-in ones are loss − level."""
    if event < levels.shape[0]:
        return out[lane] - levels[event]
    return out[(1 + p + event - levels.shape[0]) * n + lane]


@njit
def _locate(event, address, p, levels, constants, start, dense, above, below, trial, work, out):
    """Fraction of the step at which the event's value on the dense output falls to 0.

    Found by the Illinois method (regula falsi), with a bisection wherever three rounds have not
    halved the bracket.
    """
    low, high = 0.0, 1.0
    enough = 1e-13 * (levels[event] if event < levels.shape[0] else max(above, -below))
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
        _on_path(start, dense, sigma, trial)
        evaluate_at(address, trial, constants, 1, work, out)
        difference = _event_value(event, p, levels, out, 1, 0)
        if abs(difference) <= enough:
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


# ---- the loop ------------------------------------------------------------------------------------


@njit
def _loop(lanes, landscape, rule, method, limits, inputs, state, record):
    """Integrate m trajectories from their state to t_end, `len(lanes)` at a time.

    Parameters
    ----------
    lanes : tuple of float
        `ONE_LANE` or `ALL_LANES`; its type decides what is compiled.
    landscape : tuple
        address, pack_address (0 for one lane), p, n_out, n_work, mobility_address (0 for constant
        mobilities), n_own (events of the landscape).
    rule : tuple
        The code, its numbers (float64 array), and the seed.
    method : tuple
        a (S, S), error weights (S,), dense output (S, D), stage times (S,), order, and the step or
        0 for an adaptive one. The last stage is the new point.
    limits : tuple
        rtol, atol, t_end, max_steps (accepted), budget (attempts of a trajectory in this call), and
        until (the event that ends a trajectory, or −1).
    inputs : tuple of arrays, shapes (m, …)
        Rows of constants, mobilities (m, p), arguments of the mobility function, levels (m, K) of
        the loss whose falls are the first events, and numbers (m,) of the trajectories.
    state : tuple of arrays, shapes (m, …), in/out
        theta and the rule's rows, t (gradient-flow time), next step h (0: choose), first times of
        the events (NaN: not yet), loss (nats), accepted and rejected steps, status, and theta where
        the mobility failed.
    record : tuple of arrays
        t, theta, loss, coefficients of the path to it, and times of events in the step (NaN: none)
        at step n_steps of the only trajectory; of length 0 to record nothing.
    """
    address, pack_address, p, n_out, n_work, mobility_address, n_own = landscape
    code, settings, seed = rule
    a, error_weights, dense_weights, stage_times, order, step = method
    rtol, atol, t_end, max_steps, budget, until = limits
    all_constants, all_mobilities, all_arguments, all_levels, numbers = inputs
    theta, t, h, events, loss, n_steps, n_rejected, status, failed_at = state
    record_t, record_theta, record_loss, record_dense, record_events = record

    n, m, rows = len(lanes), theta.shape[0], theta.shape[1]
    stages, degree = dense_weights.shape
    n_levels, n_constants = all_levels.shape[1], all_constants.shape[1]
    n_events = n_levels + n_own
    recording = record_t.shape[0] > 0
    here = address if n == 1 else pack_address
    work, out, out_1 = np.empty(n_work), np.zeros(n_out * n), np.zeros(n_out)
    # at least an entry, for the address of it to be one
    constants = np.zeros(max(1, n_constants) * n)
    y, y_new, mobility = np.zeros(rows * n), np.zeros(rows * n), np.zeros(p * n)
    k, k_1, dense = np.zeros(stages * rows * n), np.zeros(rows), np.zeros((p, degree))
    point, trial, mobility_1 = np.zeros(rows), np.zeros(p), np.zeros(p)
    called = np.full((n, 2 * p), math.nan)
    before = np.zeros((n_events, n))
    widths, norms, checks = np.zeros(n), np.zeros(n), np.zeros(n)
    index, attempts = np.full(n, -1), np.zeros(n, np.int64)
    arriving, rejected = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    happened = np.zeros(n_events)
    upcoming, active = 0, 0
    refill = True

    while True:
        if refill:
            refill = False
            for lane in range(n):
                # a lane without a trajectory takes the next one that has not ended
                while index[lane] < 0 and upcoming < m:
                    new = upcoming
                    upcoming += 1
                    if status[new] != RUNNING:
                        continue
                    for i in range(n_constants):
                        constants[i * n + lane] = all_constants[new, i]
                    _copy(theta[new], point)
                    _copy(all_mobilities[new], mobility_1)
                    called[lane] = math.nan
                    evaluate_at(address, point, all_constants[new], 1, work, out_1)
                    if mobility_address != 0:
                        _mobility_at(
                            mobility_address, p, all_arguments[new], point, called[lane],
                            mobility_1, (0.0,), 0,
                        )  # fmt: skip
                    _slopes(
                        code, settings, p, t[new], point, out_1, mobility_1, (0.0,), 0, k_1, 0
                    )  # fmt: skip
                    for i in range(rows):
                        y[i * n + lane] = y_new[i * n + lane] = point[i]
                        k[i * n + lane] = k_1[i]
                    for i in range(p):
                        mobility[i * n + lane] = mobility_1[i]
                    for event in range(n_events):
                        before[event, lane] = _event_value(event, p, all_levels[new], out_1, 1, 0)
                    if n_steps[new] == 0:
                        loss[new] = out_1[0]
                        for event in range(n_events):
                            if before[event, lane] <= 0.0:
                                events[new, event] = 0.0
                        if step == 0.0 and h[new] == 0.0:
                            # logits change by about rtol^(1/order), where 1 is their own scale
                            speed = 1e-100
                            for i in range(rows):
                                speed = max(speed, abs(k_1[i]))
                            h[new] = min(t_end, rtol ** (1.0 / order) / speed)
                        if recording:
                            record_t[0], record_loss[0] = 0.0, out_1[0]
                            _copy(point[:p], record_theta[0])
                            _copy(events[new], record_events[0])
                    if step > 0.0:
                        h[new] = step
                    if until >= 0 and events[new, until] == 0.0:
                        status[new] = EVENT
                        _copy(called[lane, p:], failed_at[new])
                        continue
                    index[lane], attempts[lane], rejected[lane] = new, 0, False
                    active += 1
            if active == 0:
                break

        for lane in range(n):
            i = index[lane]
            if i >= 0:
                attempts[lane] += 1
                left = t_end - t[i]
                arriving[lane] = h[i] * (1.0 + 1e-10) >= left
                widths[lane] = left if arriving[lane] else h[i]
                called[lane, p] = math.nan
                if code == LANGEVIN:
                    for c in range(p):
                        spread = 2.0 * settings[0] * mobility[c * n + lane] / widths[lane]
                        k[c * n + lane] += math.sqrt(spread) * normal(
                            seed, np.int64(numbers[i]), np.int64(n_steps[i]), c
                        )
        width = _load(widths, 0, lanes)
        for stage in range(1, stages):
            for i in range(rows):
                slope = _splat(0.0, lanes)
                for j in range(stage):
                    slope = slope + a[stage, j] * _load(k, j * rows + i, lanes)
                _store(y_new, i, _load(y, i, lanes) + width * slope, lanes)
            evaluate_at(here, y_new, constants, 1 if stage == stages - 1 else 0, work, out)
            if mobility_address != 0:
                for lane in range(n):
                    if index[lane] >= 0:
                        for i in range(p):
                            point[i] = y_new[i * n + lane]
                        _mobility_at(
                            mobility_address, p, all_arguments[index[lane]], point, called[lane],
                            mobility, lanes, lane,
                        )  # fmt: skip
            start = stage * rows
            if code in (MOMENTUM, ADAM):
                for lane in range(n):
                    if index[lane] >= 0:
                        time = t[index[lane]] + stage_times[stage] * widths[lane]
                        _slopes(
                            code, settings, p, time, y_new, out, mobility, lanes, lane, k, start * n
                        )  # fmt: skip
            else:
                for i in range(p):
                    force = -_load(mobility, i, lanes) * _load(out, 1 + i, lanes)
                    _store(k, start + i, force, lanes)

        norm = _splat(0.0, lanes)
        check = 0.0 * _load(out, 0, lanes)  # 0, or NaN where something is not finite
        for i in range(rows):
            old, new_y = _load(y, i, lanes), _load(y_new, i, lanes)
            check = check + 0.0 * new_y + 0.0 * _load(k, (stages - 1) * rows + i, lanes)
            error = _splat(0.0, lanes)
            for j in range(stages):
                error = error + error_weights[j] * _load(k, j * rows + i, lanes)
            ratio = width * error / (atol + rtol * _larger_size(old, new_y))
            norm = norm + ratio * ratio
        _store(norms, 0, norm, lanes)
        _store(checks, 0, check, lanes)

        for lane in range(n):
            i = index[lane]
            if i < 0:
                continue
            finite = checks[lane] == 0.0
            failure = NOT_FINITE if math.isnan(called[lane, p]) else MOBILITY
            size = math.sqrt(norms[lane] / rows)
            if step == 0.0 and not (finite and size <= 1.0):
                rejected[lane] = True
                n_rejected[i] += 1
                usable = finite and math.isfinite(size)
                h[i] = widths[lane] * (
                    max(SHRINK, SAFETY * size ** (-1.0 / order)) if usable else SHRINK
                )
                if t[i] + h[i] <= t[i] * (1.0 + 1e-15):
                    status[i] = STEP_TOO_SMALL if finite else failure
            elif not finite:
                status[i] = failure
            else:
                levels = all_levels[i]
                crossed = False
                for event in range(n_events):
                    value = _event_value(event, p, levels, out, n, lane)
                    if before[event, lane] > 0.0 and value <= 0.0:
                        crossed = True
                if recording or crossed:
                    _dense_output(p, widths[lane], k, dense_weights, dense, rows, lanes, lane)
                ended, whole = 2.0, True
                if crossed:
                    for row in range(rows):
                        point[row] = y[row * n + lane]
                    for event in range(n_events):
                        value = _event_value(event, p, levels, out, n, lane)
                        happened[event] = 2.0
                        if before[event, lane] > 0.0 and value <= 0.0:
                            happened[event] = _locate(
                                event, address, p, levels, all_constants[i], point, dense,
                                before[event, lane], value, trial, work, out_1,
                            )  # fmt: skip
                    if until >= 0:
                        ended = happened[until]
                    whole = ended > 1.0
                    for event in range(n_events):
                        if happened[event] <= min(1.0, ended) and math.isnan(events[i, event]):
                            events[i, event] = t[i] + happened[event] * widths[lane]

                n_steps[i] += 1
                last = t[i]
                if not whole:
                    t[i] = last + ended * widths[lane]
                    _on_path(point, dense, ended, trial)
                    for row in range(p):
                        y_new[row * n + lane] = trial[row]
                    evaluate_at(address, trial, all_constants[i], 1, work, out_1)
                    loss[i] = out_1[0]
                    power = 1.0
                    for d in range(degree):
                        power *= ended
                        for row in range(p):
                            dense[row, d] *= power
                    status[i] = EVENT
                else:
                    if arriving[lane]:
                        t[i] = t_end
                    else:  # a sum of many equal steps would drift
                        t[i] = n_steps[i] * step if step > 0.0 else last + widths[lane]
                    loss[i] = out[lane]
                for row in range(rows):
                    y[row * n + lane] = y_new[row * n + lane]
                    k[row * n + lane] = k[((stages - 1) * rows + row) * n + lane]
                if recording:
                    at = np.int64(n_steps[i])
                    record_t[at], record_loss[at] = t[i], loss[i]
                    for row in range(p):
                        record_theta[at, row] = y[row * n + lane]
                    _copy(dense.ravel(), record_dense[at])
                    for event in range(n_events):
                        hit = crossed and happened[event] <= min(1.0, ended)
                        record_events[at, event] = (
                            last + happened[event] * widths[lane] if hit else math.nan
                        )
                for event in range(n_events):
                    before[event, lane] = _event_value(event, p, levels, out, n, lane)
                if not whole:
                    pass
                elif arriving[lane]:
                    status[i] = DONE
                elif n_steps[i] >= max_steps:
                    status[i] = STEP_LIMIT
                if step == 0.0:
                    factor = SAFETY * max(size, 1e-10) ** (-1.0 / order)
                    h[i] = widths[lane] * min(1.0 if rejected[lane] else GROW, max(SHRINK, factor))
                    rejected[lane] = False
            # the budget cannot end after a rejection, which the arrays do not record
            if status[i] != RUNNING or (attempts[lane] >= budget and not rejected[lane]):
                for row in range(rows):
                    theta[i, row] = y[row * n + lane]
                for c in range(p):
                    failed_at[i, c] = called[lane, p + c]
                index[lane] = -1
                active -= 1
                refill = True


# ---- from Python ---------------------------------------------------------------------------------


COLUMNS = (
    *("constants", "mobility", "arguments", "levels", "state"),
    *("number", "t", "h", "loss", "n_steps", "n_rejected", "status"),
    *("events", "failed_at"),
)
"""What a row of float64, which holds every count exactly, has of a trajectory; see `_loop`."""

N_SIZES, N_REALS = 17, 7
"""How many numbers stand before the edges of the columns, and how many are float64."""


@njit
def _run(lanes, integers, reals, tableau, rows, record):
    """Call the loop with what `integrate_batch` hands over."""
    sizes = carray(integers, N_SIZES + 1 + len(COLUMNS))
    (
        address, pack_address, p, n_out, n_work, mobility_address, n_own, code, seed,
        stages, degree, order, max_steps, budget, until, m, recorded,
    ) = sizes[:N_SIZES]  # fmt: skip
    e, numbers = sizes[N_SIZES:], carray(reals, N_REALS)
    step, rtol, atol, t_end = numbers[:4]
    behind = stages * stages
    row = carray(rows, (m, e[len(COLUMNS)]))
    path = 2 + p + e[13] - e[12]  # where it begins
    log = carray(record, (recorded, path + p * degree))
    _loop(
        lanes,
        (address, pack_address, p, n_out, n_work, mobility_address, n_own),
        (code, numbers[4:], np.uint64(seed)),
        (
            carray(tableau, (stages, stages)),
            carray(advanced(tableau, behind), stages),
            carray(advanced(tableau, behind + 2 * stages), (stages, degree)),
            carray(advanced(tableau, behind + stages), stages),
            order,
            step,
        ),
        (rtol, atol, t_end, max_steps, budget, until),
        (
            row[:, : e[1]], row[:, e[1] : e[2]], row[:, e[2] : e[3]], row[:, e[3] : e[4]],
            row[:, e[5]],
        ),
        (
            row[:, e[4] : e[5]], row[:, e[6]], row[:, e[7]], row[:, e[12] : e[13]], row[:, e[8]],
            row[:, e[9]], row[:, e[10]], row[:, e[11]], row[:, e[13] :],
        ),
        (log[:, 0], log[:, 2 : 2 + p], log[:, 1], log[:, path:], log[:, 2 + p : path]),
    )  # fmt: skip
    return 1


def one_lane(integers, reals, tableau, rows, record):
    return _run(ONE_LANE, integers, reals, tableau, rows, record)


def all_lanes(integers, reals, tableau, rows, record):
    return _run(ALL_LANES, integers, reals, tableau, rows, record)


@cache
def _compiled(side_by_side):
    integers, reals = types.CPointer(types.int64), types.CPointer(types.float64)
    signature = types.int64(integers, reals, reals, reals, reals)
    address = address_of_kernel(all_lanes if side_by_side else one_lane, signature)
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 5)(address)


_integers, _reals = Struct(f"{N_SIZES + 1 + len(COLUMNS)}q"), Struct(f"{N_REALS}d")


def integrate_batch(side_by_side, landscape, rule, method, limits, rows, edges, record):
    """`_loop`, one trajectory after the other or LANES side by side.

    It is called through ctypes, which lets go of the interpreter's lock. numba's own way to call a
    function takes a quarter of a second to get ready for in every process.

    Parameters
    ----------
    side_by_side : bool
    landscape, limits : tuples
        As for `_loop`.
    rule : tuple
        The code, the seed, and three numbers.
    method : tuple
        The tableau, as `Stepper.tableau`, then S, D, order and step.
    rows : ndarray, shape (m, …)
        What is read and written of the trajectories: the columns `COLUMNS`.
    edges : sequence of int
        Where the columns begin, and where the last one ends.
    record : ndarray, shape (n, …)
        For each step a row: t, loss, theta, times of events and coefficients of the path to it.

    Raises
    ------
    MemoryError
    """
    code, seed, *settings = rule
    tableau, stages, degree, order, step = method
    rtol, atol, t_end, max_steps, budget, until = limits
    assert rows.flags.c_contiguous
    assert record.flags.c_contiguous
    sizes = code, seed, stages, degree, order, max_steps, budget, until, len(rows), len(record)
    # packed bytes cost a fraction of arrays, which have to be made and asked for their addresses
    integers = _integers.pack(*landscape, *sizes, *edges)
    reals = _reals.pack(step, rtol, atol, t_end, *settings)
    run = _compiled(side_by_side)
    if not run(integers, reals, tableau, rows.ctypes.data, record.ctypes.data):
        raise MemoryError
