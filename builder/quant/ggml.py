"""ggml's tensors as its library lays them out, and what is reckoned with it of activations and predictions."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkllm.builder.errors import NoKit

OBJECT_SIZE = 32  # ggml's own header before each tensor
CPU = 0  # GGML_BACKEND_DEVICE_TYPE_CPU
F32, I32 = 0, 26
GRAPH_ROOM = 1 << 20
SMALLEST = 1e-38  # a probability; its logarithm is a number


class Tensor(ctypes.Structure):
    """`struct ggml_tensor`: `ne` elements and `nb` bytes from one to the next, in each dimension."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


class _Parameters(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Traits(ctypes.Structure):
    """`struct ggml_type_traits`."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("interleaved", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float", ctypes.c_void_p),
    ]


class Ggml:
    """The library of a kit whose CPU variant is loaded. Raises NoKit when its tensors are not laid out as here."""

    def __init__(self, native: Path) -> None:
        self._base = ctypes.CDLL(str(native / "libggml-base.so"))
        registry = ctypes.CDLL(str(native / "libggml.so"))
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
        self._overhead = self._function("ggml_tensor_overhead", size)
        self._op_name = self._function("ggml_op_name", ctypes.c_char_p, ctypes.c_int)
        self._init = self._function("ggml_init", pointer, _Parameters)
        self._free = self._function("ggml_free", None, pointer)
        self._set_no_alloc = self._function("ggml_set_no_alloc", None, pointer, ctypes.c_bool)
        self._tensor = self._function("ggml_new_tensor_4d", pointer, pointer, ctypes.c_int, *[number] * 4)
        self._cont_2d = self._function("ggml_cont_2d", pointer, pointer, pointer, number, number)
        self._sqr = self._function("ggml_sqr_inplace", pointer, pointer, pointer)
        self._transpose = self._function("ggml_transpose", pointer, pointer, pointer)
        self._cont = self._function("ggml_cont", pointer, pointer, pointer)
        self._mul_mat = self._function("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self._add = self._function("ggml_add_inplace", pointer, pointer, pointer, pointer)
        self._sub = self._function("ggml_sub", pointer, pointer, pointer, pointer)
        self._mul = self._function("ggml_mul", pointer, pointer, pointer, pointer)
        self._soft_max = self._function("ggml_soft_max", pointer, pointer, pointer)
        self._clamp = self._function("ggml_clamp", pointer, pointer, pointer, ctypes.c_float, ctypes.c_float)
        self._log = self._function("ggml_log", pointer, pointer, pointer)
        self._exp = self._function("ggml_exp", pointer, pointer, pointer)
        self._scale = self._function("ggml_scale", pointer, pointer, pointer, ctypes.c_float)
        self._traits = self._function("ggml_get_type_traits", ctypes.POINTER(_Traits), ctypes.c_int)
        chunk = [ctypes.c_int, pointer, pointer, number, number, number, pointer]
        self._quantize = self._function("ggml_quantize_chunk", size, *chunk)
        self._requires_matrix = self._function("ggml_quantize_requires_imatrix", ctypes.c_bool, ctypes.c_int)
        self._sum_rows = self._function("ggml_sum_rows", pointer, pointer, pointer)
        self._argmax = self._function("ggml_argmax", pointer, pointer, pointer)
        self._graph = self._function("ggml_new_graph", pointer, pointer)
        self._expand = self._function("ggml_build_forward_expand", None, pointer, pointer)
        self._compute = self._function("ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
        self._backend = self._one_thread(registry)
        if not self._backend or self._overhead() != ctypes.sizeof(Tensor) + OBJECT_SIZE:
            raise NoKit("the kit's ggml is not the one that this mkllm knows: run `mkllm kit build` again")

    def op_name(self, tensor: Tensor) -> str:
        """The operation that makes the tensor, such as MUL_MAT."""
        name: bytes = self._op_name(tensor.op)
        return name.decode()

    def add_squares(self, values: Tensor, weights: "ctypes.Array[Any]", sums: "ctypes.Array[Any]") -> None:
        """Add to each of the matrices in `sums`, by column, the squares of the rows of `values` that are its own.

        `weights` has for each matrix one number per row: how often it counts. Raises MemoryError.
        """
        width, rows = values.ne[0], values.ne[1] * values.ne[2] * values.ne[3]
        matrices = len(weights) // rows
        with self._work(4 * (2 * width * rows + width * matrices)) as context:
            self._set_no_alloc(context, True)
            source = self._view(context, values.data, tuple(values.ne), tuple(values.nb))
            self._set_no_alloc(context, False)
            chosen = self._given(context, ctypes.addressof(weights), rows, matrices)
            total = self._given(context, ctypes.addressof(sums), width, matrices)
            squares = self._sqr(context, self._cont_2d(context, source, width, rows))
            columns = self._cont(context, self._transpose(context, squares))
            self._run(context, self._add(context, total, self._mul_mat(context, columns, chosen)))

    def log_probabilities(self, logits: int, width: int, rows: int) -> "ctypes.Array[Any]":
        """Of `rows` predictions over `width` tokens at `logits`; none is below SMALLEST. Raises MemoryError."""
        with self._work(4 * 4 * width * rows) as context:
            source = self._given(context, logits, width, rows)
            log = self._log(context, self._clamp(context, self._soft_max(context, source), SMALLEST, 1.0))
            self._run(context, log)
            return (ctypes.c_float * (width * rows)).from_buffer_copy(self._read(log, 4 * width * rows))

    def divergences(self, base: int, other: int, width: int, rows: int) -> tuple[list[float], list[bool]]:
        """Of each row of log-probabilities `other` the KL divergence from `base`, and whether its likeliest token is
        the same. Raises MemoryError."""
        with self._work(6 * 4 * width * rows) as context:
            first, second = (self._given(context, address, width, rows) for address in (base, other))
            apart = self._sub(context, first, second)
            sums = self._sum_rows(context, self._mul(context, self._exp(context, first), apart))
            tops = [self._argmax(context, tensor) for tensor in (first, second)]
            self._run(context, sums, *tops)
            values = list((ctypes.c_float * rows).from_buffer_copy(self._read(sums, 4 * rows)))
            one, two = ((ctypes.c_int32 * rows).from_buffer_copy(self._read(top, 4 * rows)) for top in tops)
            return values, [a == b for a, b in zip(one, two, strict=True)]

    def requires_matrix(self, kind: int) -> bool:
        """Whether nothing is quantized to this type without an importance matrix."""
        return bool(self._requires_matrix(kind))

    def floats(self, kind: int, data: bytes, count: int) -> "ctypes.Array[Any]":
        """`count` numbers of that type in 32 bits."""
        numbers = (ctypes.c_float * count)()
        if kind == F32:
            ctypes.memmove(numbers, data, 4 * count)
        else:
            TO_FLOAT(self._traits(kind).contents.to_float)(data, ctypes.addressof(numbers), count)
        return numbers

    def quantized(self, kind: int, numbers: "ctypes.Array[Any]", rows: int, width: int, size: int) -> bytes:
        """Rows of numbers as that type, in `size` bytes."""
        if kind == F32:
            return bytes(numbers)
        data = ctypes.create_string_buffer(size)
        self._quantize(kind, ctypes.addressof(numbers), ctypes.addressof(data), 0, rows, width, None)
        return data.raw

    def transposed(self, data: int, width: int, rows: int) -> "ctypes.Array[Any]":
        """The columns of a matrix, one after the other. Raises MemoryError."""
        with self._work(4 * width * rows) as context:
            turned = self._cont(context, self._transpose(context, self._given(context, data, width, rows)))
            self._run(context, turned)
            return (ctypes.c_float * (width * rows)).from_buffer_copy(self._read(turned, 4 * width * rows))

    def add_product(self, data: int, left: int, right: int, shape: tuple[int, int, int], scale: float) -> None:
        """Add to `rows` of `width` numbers at `data` the products of `left` and `right`, times `scale`.

        `left` has `rank` numbers for each column, `right` for each row; `shape`: width, rows, rank. Raises MemoryError.
        """
        width, rows, rank = shape
        with self._work(4 * (width * rows + rank * rows)) as context:
            base, first, second = (
                self._given(context, address, *sizes)
                for address, sizes in ((data, (width, rows)), (left, (rank, width)), (right, (rank, rows)))
            )
            product = self._mul_mat(context, first, self._scale(context, second, scale))
            self._run(context, self._add(context, base, product))

    @contextlib.contextmanager
    def _work(self, size: int) -> Iterator[int]:
        context = self._init(_Parameters(size + 64 * ctypes.sizeof(Tensor) + GRAPH_ROOM, None, False))
        try:
            yield context
        finally:
            self._free(context)

    def _given(self, context: int, data: int, *shape: int) -> int:
        self._set_no_alloc(context, True)
        made = self._view(context, data, (*shape, *[1] * (4 - len(shape))))
        self._set_no_alloc(context, False)
        return made

    def _run(self, context: int, *results: int) -> None:
        graph = self._graph(context)
        for result in results:
            self._expand(graph, result)
        if self._compute(self._backend, graph):
            raise MemoryError

    @staticmethod
    def _read(tensor: int, size: int) -> bytes:
        return ctypes.string_at(Tensor.from_address(tensor).data, size)

    def _view(self, context: int, data: int, shape: tuple[int, ...], strides: tuple[int, ...] = ()) -> int:
        """Numbers of 32 bits that lie in memory already."""
        address: int = self._tensor(context, F32, *shape)
        tensor = Tensor.from_address(address)
        tensor.data = data
        for dimension, stride in enumerate(strides):
            tensor.nb[dimension] = stride
        return address

    def _one_thread(self, registry: ctypes.CDLL) -> int:
        """A CPU backend of one thread: the sums wait for the memory; starting threads for each takes longer."""
        pointer, number = ctypes.c_void_p, ctypes.c_int
        find, get = registry.ggml_backend_dev_by_type, registry.ggml_backend_init_by_type
        find.restype, find.argtypes = pointer, [number]
        get.restype, get.argtypes = pointer, [number, ctypes.c_char_p]
        group = self._function("ggml_backend_dev_backend_reg", pointer, pointer)
        look_up = self._function("ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p)
        backend, device = get(CPU, None), find(CPU)
        address = look_up(group(device), b"ggml_backend_set_n_threads") if device else None
        if not backend or not address:
            return 0
        ctypes.CFUNCTYPE(None, pointer, number)(address)(backend, 1)
        return int(backend)

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        function = getattr(self._base, name)
        function.restype, function.argtypes = result, list(arguments)
        return function
