"""Products of small matrices, inside compiled functions and without BLAS.

The networks multiply matrices of about a hundred rows, hundreds of times a second and in several
threads. A call of BLAS through numba costs a fifth of such a product, and BLAS has threads of its
own, which get in the way and change the rounding. This product has neither: it is as fast as the
hardware to within a fifth, and its result depends on its arguments alone.

The scheme is the usual one: `COLUMNS` columns of the right matrix are packed, so that they stay in
the first cache, and a tile of ROWS x COLUMNS results is kept in registers while the inner index
runs.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from cliff.kernels import entry

ROWS, COLUMNS = 6, 16
"""Shape of a tile: in float32, 12 of the 16 registers of AVX2."""

DEPTH = 256
"""Inner indices at a time: 16 KiB of packed columns in float32, half of a first cache."""


def _check_alike(*arrays):
    """Refuse arrays of several dtypes, which would be read and written as those of the first."""
    if len({array.dtype for array in arrays}) > 1:
        raise TypingError("all matrices of a product must be float32, or all float64")


def _vector(context, kind):
    """COLUMNS numbers of an array's type in LLVM, and the bytes of one."""
    number = context.get_value_type(kind.dtype)
    return ir.VectorType(number, COLUMNS), context.get_abi_sizeof(number)


def _place(context, builder, kind, array, row, column):
    """Pointer to an entry of a matrix, and the bytes from row to row and from column to column."""
    array = context.make_array(kind)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, array.strides)
    steps = builder.add(builder.mul(row, strides[0]), builder.mul(column, strides[1]))
    return cgutils.pointer_add(builder, array.data, steps), *strides


@intrinsic
def _tile(typing_context, left, first_row, last_row, first_column, packed, depth, out, row, column):
    """Multiply `ROWS` rows by the packed columns, into ``out[row:, column:]``.

    Row i of the tile is row ``min(first_row + i, last_row)`` of ``left[:, first_column:]``;
    `packed` is (depth, COLUMNS); the rows of `packed` and `out` are contiguous.
    """

    def lower(context, builder, signature, arguments):
        left_type, _, _, _, packed_type, _, out_type, _, _ = signature.args
        left, first_row, last_row, first_column, packed, depth, out, row, column = arguments
        left = context.make_array(left_type)(context, builder, left)
        packed = context.make_array(packed_type)(context, builder, packed).data
        vector, size = _vector(context, left_type)
        fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(vector, [vector] * 3),
            f"llvm.fma.v{COLUMNS}f{8 * size}",
        )
        row_stride, column_stride = cgutils.unpack_tuple(builder, left.strides)

        def move(pointer, *steps):
            for count, stride in steps:
                pointer = cgutils.pointer_add(builder, pointer, builder.mul(count, stride))
            return pointer

        def constant(value):
            return ir.Constant(first_row.type, value)

        rows, sums = [], []
        for i in range(ROWS):
            index = builder.add(first_row, constant(i))
            index = builder.select(builder.icmp_signed("<", index, last_row), index, last_row)
            rows.append(move(left.data, (index, row_stride), (first_column, column_stride)))
            sums.append(cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * COLUMNS)))
        with cgutils.for_range(builder, depth) as loop:
            pointer = move(packed, (loop.index, constant(COLUMNS * size)))
            columns = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=size)
            for entries, total in zip(rows, sums, strict=True):
                entry = builder.load(move(entries, (loop.index, column_stride)))
                everywhere = builder.insert_element(
                    ir.Constant(vector, ir.Undefined), entry, ir.Constant(ir.IntType(32), 0)
                )
                everywhere = builder.shuffle_vector(
                    everywhere,
                    everywhere,
                    ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), [0] * COLUMNS),
                )
                builder.store(builder.call(fma, [everywhere, columns, builder.load(total)]), total)
        pointer, out_stride, _ = _place(context, builder, out_type, out, row, column)
        for total in sums:
            target = builder.bitcast(pointer, vector.as_pointer())
            builder.store(builder.load(total), target, align=size)
            pointer = cgutils.pointer_add(builder, pointer, out_stride)
        return context.get_dummy_value()

    _check_alike(left, packed, out)
    integers = [types.intp] * 3
    return types.void(left, *integers, packed, types.intp, out, types.intp, types.intp), lower


@intrinsic
def _copy(typing_context, matrix, row, column, packed, packed_row):
    """Copy `COLUMNS` neighbours in a row of the matrix, from `column` on, to a row of `packed`."""

    def lower(context, builder, signature, arguments):
        matrix_type, _, _, packed_type, _ = signature.args
        matrix, row, column, packed, packed_row = arguments
        vector, size = _vector(context, matrix_type)
        source, _, column_stride = _place(context, builder, matrix_type, matrix, row, column)
        zero = ir.Constant(packed_row.type, 0)
        target, *_ = _place(context, builder, packed_type, packed, packed_row, zero)
        target = builder.bitcast(target, vector.as_pointer())
        near = builder.icmp_signed("==", column_stride, ir.Constant(row.type, size))
        with builder.if_else(near) as (together, one_by_one):
            with together:
                values = builder.load(builder.bitcast(source, vector.as_pointer()), align=size)
                builder.store(values, target, align=size)
            with one_by_one:
                values = ir.Constant(vector, ir.Undefined)
                for lane in range(COLUMNS):
                    entry = builder.load(source)
                    values = builder.insert_element(
                        values, entry, ir.Constant(ir.IntType(32), lane)
                    )
                    source = cgutils.pointer_add(builder, source, column_stride)
                builder.store(values, target, align=size)
        return context.get_dummy_value()

    _check_alike(matrix, packed)
    return types.void(matrix, types.intp, types.intp, packed, types.intp), lower


@intrinsic
def _copy_transposed(typing_context, matrix, row, column, packed, packed_row):
    """Copy a square block of the matrix, COLUMNS x COLUMNS, whose columns are contiguous.

    Columns are read and `packed` is written by whole registers. In between, the block is transposed
    as a matrix of two by two blocks is, its quarters in the same way, and so on.
    """

    def lower(context, builder, signature, arguments):
        matrix_type, _, _, packed_type, _ = signature.args
        matrix, row, column, packed, packed_row = arguments
        vector, size = _vector(context, matrix_type)
        source, _, column_stride = _place(context, builder, matrix_type, matrix, row, column)
        block = []
        for _ in range(COLUMNS):
            block.append(builder.load(builder.bitcast(source, vector.as_pointer()), align=size))
            source = cgutils.pointer_add(builder, source, column_stride)
        half = COLUMNS // 2
        while half:
            top = [lane if not lane & half else COLUMNS + lane - half for lane in range(COLUMNS)]
            bottom = [lane + half if not lane & half else COLUMNS + lane for lane in range(COLUMNS)]
            for i in range(COLUMNS):
                if not i & half:
                    pair = block[i], block[i + half]
                    for place, lanes in ((i, top), (i + half, bottom)):
                        mask = ir.Constant(ir.VectorType(ir.IntType(32), COLUMNS), lanes)
                        block[place] = builder.shuffle_vector(*pair, mask)
            half //= 2
        zero = ir.Constant(packed_row.type, 0)
        target, row_stride, _ = _place(context, builder, packed_type, packed, packed_row, zero)
        for values in block:
            builder.store(values, builder.bitcast(target, vector.as_pointer()), align=size)
            target = cgutils.pointer_add(builder, target, row_stride)
        return context.get_dummy_value()

    _check_alike(matrix, packed)
    return types.void(matrix, types.intp, types.intp, packed, types.intp), lower


@entry
def product(left, right):
    """``left @ right``, as `multiply` computes it."""
    return multiply(left, right, np.empty((left.shape[0], right.shape[1]), left.dtype))


@entry
def multiply(left, right, out):
    """Write ``left @ right`` into `out`, and return it.

    Parameters
    ----------
    left : ndarray, shape (m, k)
    right : ndarray, shape (k, n)
    out : ndarray, shape (m, n), overwritten
        Its rows are contiguous. All are float32 or all are float64.
    """
    n_rows, n_inner = left.shape
    n_columns = right.shape[1]
    packed = np.zeros((min(n_inner, DEPTH), COLUMNS), left.dtype)
    tile = np.empty((ROWS, COLUMNS), left.dtype)
    if n_inner == 0:
        out[:] = 0
    for begin in range(0, n_inner, DEPTH):
        depth = min(DEPTH, n_inner - begin)
        for column in range(0, n_columns, COLUMNS):
            width = min(COLUMNS, n_columns - column)
            _pack(right, begin, depth, column, width, packed)
            for row in range(0, n_rows, ROWS):
                height = min(ROWS, n_rows - row)
                if begin == 0 and width == COLUMNS and height == ROWS:
                    _tile(left, row, n_rows - 1, begin, packed, depth, out, row, column)
                    continue
                _tile(left, row, n_rows - 1, begin, packed, depth, tile, 0, 0)
                for i in range(height):
                    for j in range(width):
                        if begin:
                            tile[i, j] += out[row + i, column + j]
                        out[row + i, column + j] = tile[i, j]
    return out


@entry
def multiply_causal(left, right, out, packed):
    """Write the product of a lower triangular matrix of few rows with another one into `out`.

    Parameters
    ----------
    left : ndarray, shape (n, n)
        Zero above the diagonal.
    right : ndarray, shape (n, m)
        m is a multiple of `COLUMNS`, and rows are contiguous.
    out : ndarray, shape (n + ROWS, m), overwritten
        What stands below the first n rows does not matter.
    packed : ndarray, shape (n, COLUMNS), overwritten
        Room to work in.
    """
    n = len(left)
    for column in range(0, right.shape[1], COLUMNS):
        _pack(right, 0, n, column, COLUMNS, packed)
        for row in range(0, n, ROWS):
            depth = min(row + ROWS, n)
            _tile(left, row, n - 1, 0, packed, depth, out, row, column)


@entry
def _pack(matrix, first_row, depth, first_column, width, packed):
    """Copy a block of the matrix to the columns of `packed`; those beyond `width` do not matter."""
    if width == COLUMNS:
        done = 0
        if matrix.strides[0] == matrix.itemsize:
            while done + COLUMNS <= depth:
                _copy_transposed(matrix, first_row + done, first_column, packed, done)
                done += COLUMNS
        for p in range(done, depth):
            _copy(matrix, first_row + p, first_column, packed, p)
    else:
        for j in range(width):
            for p in range(depth):
                packed[p, j] = matrix[first_row + p, first_column + j]
