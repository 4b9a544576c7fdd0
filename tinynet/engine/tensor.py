"""The engine: Tensor, Function and the backward pass. It knows no operation.

A `Tensor` is an array that remembers where it came from. A `Function` is one differentiable operation: `forward` turns
arrays into an array, `backward` turns the gradient of the output into the gradients of the inputs. `Function.apply`
runs `forward`. If a gradient may be needed later, `apply` links the output tensor to the function, and the function
to the functions that made its inputs: that is the graph. `Tensor.backward` walks the graph from the loss to the leaves
in reverse topological order, so that the gradient of a tensor is complete (summed over all its uses) before it is
passed on.

    class Square(Function):
        def forward(self, x):
            self.save(x)
            return x * x
        def backward(self, gy):
            (x,) = self.saved
            return 2 * x * gy

    y = Square.apply(x)

The nodes of the graph are functions, not tensors, so that the graph keeps only the arrays that a function saved. In
`conv -> ELU`, the output of the convolution is freed early, because ELU saves its own output. Only a leaf, which
receives a gradient, is a node itself.

With `create_graph=True` the `backward` methods get Tensors instead of arrays, so that what they compute can be
differentiated again. This works because *a Function applied to arrays runs its forward and returns an array.*
"""

from __future__ import annotations

import contextlib
import operator
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, NoReturn

import numpy as np

from ..backends.arrays import array_module, device_of, plain_array
from ..backends.context import set_inside
from ..backends.devices import to_device
from ..backends.memory import named_error
from .operators import Operators
from .saved import Saved, Version, is_view

# How two gradients of one tensor are added. `tinynet.ops` puts its parallel kernel for large arrays here.
add_gradients: Callable[[Any, Any], Any] = operator.add

_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)


def grad_mode(enabled: bool) -> contextlib.AbstractContextManager[None]:
    """Inside `with`, operations build the graph (True) or they do not (False)."""
    return set_inside(_grad_enabled, enabled)


def no_grad() -> contextlib.AbstractContextManager[None]:
    """Inside `with no_grad():` this thread builds no graph, so no array is kept for a backward pass."""
    return grad_mode(False)


def is_grad_enabled() -> bool:
    """True if operations build the graph."""
    return _grad_enabled.get()


class _Size(int):
    """The number of elements: an int that says what it is if it is called as in PyTorch."""

    def __call__(self, *axis: int) -> NoReturn:
        raise TypeError("x.size is the number of elements; write x.shape, or x.shape[0] for one axis")


class Tensor(Operators):
    """An array that remembers how it was computed.

    data: the array (NumPy, or CuPy on a GPU), of any shape.
    requires_grad: True if `backward()` should compute the gradient with respect to this tensor.
    grad: after `backward()`, a Tensor of the same shape and dtype, or None. Gradients of several backward
        passes add up; `tensor.grad = None` resets it.
    creator: the Function that made this tensor, None for a leaf.

    Raises TypeError if data is a Tensor already, or if requires_grad is True and the dtype is not floating-point.
    """

    __slots__ = ("__weakref__", "_data", "_grad", "_hooks", "_requires_grad", "_retain_grad", "_version", "creator")

    # NumPy and CuPy must leave `array + tensor` to Tensor.__radd__ instead of looping over the elements.
    __array_priority__ = 1000

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        if isinstance(data, Tensor):
            raise TypeError("Tensor: data is already a Tensor; use tensor.detach() for the same values without history")
        self._data = plain_array("Tensor: data", _array(data))
        self._requires_grad = False
        self._grad: Tensor | None = None
        self.creator: Function | None = None
        self._version = Version()
        self._hooks: list[Callable] | None = None
        self._retain_grad = False
        if requires_grad:
            self.requires_grad_()

    @property
    def data(self) -> Any:
        """The array. Another array of the same shape may take its place."""
        return self._data

    @data.setter
    def data(self, array: Any) -> None:
        if not hasattr(array, "dtype") or isinstance(array, (Tensor, np.generic)):
            raise TypeError(
                f"data is set to a {type(array).__name__}; an array is needed: write x.data = other.numpy()"
            )
        if array.shape != self.shape or (array.dtype.kind != "f" and self._requires_grad):
            raise ValueError(f"data is set to {array.dtype}{array.shape}; {self.dtype}{self.shape} is needed")
        self._data = plain_array("data", _array(array))
        self._version.count += 1  # a graph of the gradient would compute with the new values

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` added up, or None."""
        return self._grad

    @grad.setter
    def grad(self, gradient: Any) -> None:
        if gradient is not None and not isinstance(gradient, Tensor):
            if not hasattr(gradient, "dtype"):
                raise TypeError(f"grad is set to a {type(gradient).__name__}; a Tensor, an array or None is needed")
            gradient = Tensor(gradient)
        if gradient is not None and (gradient.shape, gradient.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"grad is set to {gradient.dtype}{gradient.shape}; {self.dtype}{self.shape}, as the tensor, is needed"
            )
        self._grad = gradient

    @property
    def requires_grad(self) -> bool:
        """True if `backward()` computes the gradient with respect to this tensor."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return _Size(self._data.size)

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def device(self) -> str:
        """'cpu' (NumPy) or 'cuda' (CuPy)."""
        return device_of(self.data)

    @property
    def node(self) -> Function | Tensor:
        """The node of the graph for this tensor: the Function that made it; a leaf is its own node."""
        return self if self.creator is None else self.creator

    @property
    def is_leaf(self) -> bool:
        return self.creator is None

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a tensor with no axes")
        return self.shape[0]

    def __repr__(self) -> str:
        body = np.array2string(self.numpy(), prefix="tensor(", separator=", ", threshold=100, precision=4)
        extra = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({body}, dtype={self.dtype}{extra})"

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(f"the truth value of a tensor of shape {self.shape} is ambiguous: use .any() or .all()")
        return bool(self.data)

    def __float__(self) -> float:
        if self._requires_grad and is_grad_enabled():  # also math.exp(x) and np.float64(x) come here
            warnings.warn(
                "float(x), math.exp(x), ...: a Python number has no gradient, but this tensor needs one. Write "
                "x.item() for the number, or tn.exp(x), ...",
                stacklevel=2,
            )
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        if spec and self.size != 1:
            raise TypeError(f"format: {spec!r} is for one element, the tensor has shape {self.shape}; format x.numpy()")
        return format(self.item() if spec else str(self), spec)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.is_leaf:
            raise TypeError("copy, pickle: a tensor with history would lose its graph; take x.detach() or x.numpy()")
        return super().__reduce_ex__(protocol)

    def __round__(self, digits: int | None = None) -> float:
        return round(self.item(), digits)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        self._check_no_history_is_lost("NumPy")
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __array_function__(self, function: Callable, types: Any, arguments: Any, options: Any) -> Any:
        """np.mean(x), np.stack([x, y]), ...: of the values, if no gradient is needed."""
        if function in (np.shape, np.ndim, np.size):
            return function(self.data)
        name = f"np.{function.__name__}"
        return function(*_values(name, arguments), **_values(name, options))

    def _check_no_history_is_lost(self, function: str) -> None:
        if self._requires_grad and is_grad_enabled():
            raise RuntimeError(
                f"{function} would take the values of a tensor that needs a gradient, and the gradient would miss this "
                "step. Write the function of tinynet (tn.exp for np.exp, x.mean() for np.mean), or x.numpy() for the "
                "values alone"
            )

    def item(self) -> float | int | bool:
        """The value of a tensor with one element, as a Python number. Raises ValueError for any other size."""
        if self.size != 1:
            raise ValueError(f"item: the tensor has shape {self.shape}; exactly one element is needed")
        return self.numpy().reshape(()).item()

    def tolist(self) -> Any:
        """The elements as Python numbers in nested lists."""
        return self.numpy().tolist()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: the tensor's own memory on the CPU, a copy from a GPU."""
        return to_device(self.data, "cpu")

    def detach(self) -> Tensor:
        """A tensor with the same memory and no history: gradients stop here."""
        out = Tensor(self.data)
        out._version = self._version
        return out

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Freeze (False) or train (True) a leaf, such as a parameter, and return it."""
        if not self.is_leaf:
            raise RuntimeError("requires_grad: only a leaf can be switched; use .detach() to stop a gradient")
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(
                f"requires_grad needs a floating-point dtype, the tensor has {self.dtype}; "
                "convert it first, e.g. data.astype('float32')"
            )
        self._requires_grad = bool(requires_grad)
        return self

    def retain_grad(self) -> Tensor:
        """Make `backward()` store `.grad` here, too, although this tensor is not a leaf."""
        self._retain_grad = True
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(gradient)` in each backward pass, once the gradient of this tensor is complete.

        If the hook returns a gradient, it replaces the complete gradient. Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise RuntimeError("register_hook: this tensor does not require a gradient, the hook would never run")
        hooks = self.node._hooks = self.node._hooks or []
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def changed_in_place(self) -> None:
        """Note that `data` was overwritten: a graph that saved the old values then refuses to use the new ones.

        The in-place operations of the Tensor API and the optimizers call this.
        """
        if self.requires_grad and is_grad_enabled():
            raise RuntimeError(
                "in-place change of a tensor that requires a gradient: the graph could not know about it. "
                "Write x = x + 1 instead of x[...] = ..., or do it inside `with no_grad():`"
            )
        self._version.count += 1

    def assign(self, value: Any) -> Tensor:
        """Overwrite the elements, as `p -= lr * p.grad` does inside of `with no_grad():`; returns this tensor.

        value: an array or Tensor of this shape and dtype. Raises RuntimeError as `changed_in_place` does, ValueError or
        TypeError for a value that does not fit or memory that is read-only.
        """
        value = value.data if isinstance(value, Tensor) else value
        if (value.shape, value.dtype) != (self.shape, self.dtype):
            raise ValueError(
                f"in-place change: the result is {value.dtype}{value.shape}, the tensor is {self.dtype}{self.shape}"
            )
        self.changed_in_place()
        self.data[...] = value
        return self

    def backward(self, gradient: Any = None, *, create_graph: bool = False, retain_graph: bool | None = None) -> None:
        """Compute d(self)/d(leaf) for every leaf that requires it and add it to `leaf.grad`.

        gradient: dL/d(self), of this tensor's shape; may be left out for a single element (then it is 1).
        create_graph: build a graph of the backward pass too, so that gradients can be differentiated again.
        retain_graph: keep what was saved for another backward pass (default: only with create_graph).

        Raises RuntimeError if the tensor has no history, if an earlier backward() freed its graph, or if an array that
        the graph saved was changed in place; ValueError or TypeError for a gradient of another shape or dtype.
        """

        def deliver(node: Node, gradient: Any) -> None:
            tensor = node if isinstance(node, Tensor) else node._out()
            if tensor is None or not (tensor.creator is None or tensor._retain_grad):
                return
            if tensor._grad is not None:
                total = (tensor._grad if create_graph else tensor._grad._data) + gradient
            else:
                # A function may return the same array for two inputs, so each leaf gets memory of its own. With
                # create_graph the copy must be an operation with a gradient: a multiplication.
                total = gradient * 1 if create_graph else gradient.copy()
            tensor._grad = total if isinstance(total, Tensor) else Tensor(total)

        _propagate(self, gradient, create_graph, retain_graph, deliver)


def _array(data: Any) -> Any:
    """The data as an array of NumPy or CuPy: np.matrix, pandas' and PyTorch's classes have operators of their own."""
    is_kept = type(data) is np.ndarray or isinstance(data, np.ma.MaskedArray) or array_module(data) is not np
    return data if is_kept else np.asarray(data)


def _values(name: str, value: Any) -> Any:
    """The value with each Tensor in it, also in lists, tuples and dicts, as a NumPy array."""
    if isinstance(value, Tensor):
        value._check_no_history_is_lost(name)
        return value.numpy()
    if isinstance(value, (list, tuple)):
        return type(value)(_values(name, v) for v in value)
    return {key: _values(name, v) for key, v in value.items()} if isinstance(value, dict) else value


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Make a leaf tensor. Arrays keep their dtype and share their memory; Python floats become float32.

    data: an array, a Tensor (whose memory is shared, not its history) or nested lists of numbers.
    dtype: the dtype to convert to.
    Raises TypeError for ragged lists and objects, and for requires_grad with a dtype that is not floating-point.
    """
    is_array = hasattr(data, "dtype")
    try:
        array = data.data if isinstance(data, Tensor) else _array(data)
    except ValueError:
        raise TypeError("tensor: data is ragged; a rectangular array of numbers is needed") from None
    if array.dtype == object:
        raise TypeError("tensor: data holds objects; a rectangular array of numbers is needed")
    if dtype is None and not is_array and array.dtype == np.float64:
        dtype = np.float32
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    out = Tensor(array, requires_grad=requires_grad)
    if isinstance(data, Tensor) and array is data.data:
        out._version = data._version  # the same memory: a change of one tensor changes both
    return out


class Function:
    """One differentiable operation. Subclass it, write `forward` and `backward`, call `MyFunction.apply(...)`.

    forward(self, *arrays, **parameters) -> array, or a tuple of arrays
        works on plain arrays and calls `self.save(...)` with what backward will need. Of a tuple, the first array is
        the output; the others (the indices of max-pool, the statistics of batch norm) are returned with it and have
        no gradient.
    backward(self, gy) -> gradient or tuple of gradients
        one for each positional argument of forward; in a tuple, None where there is none. `gy` and `self.saved`
        are arrays, or Tensors when a graph of the gradient is asked for: code written with operators and the
        functions of tinynet serves both. `self.needs_grad[i]` is True if the gradient of argument i is wanted.
    backward_graph(self, gy)
        optional: runs instead of backward when a graph of the gradient is asked for. Needed where backward calls a
        kernel that has no gradient itself.
    """

    inputs: tuple[Node | None, ...] | None = None  # of the arguments that need a gradient; None: the graph is freed
    needs_grad: tuple[bool, ...] = ()
    _input_kinds: tuple = ()  # (shape, dtype) of each argument that is a Tensor
    _out: Callable[[], Tensor | None]  # a weak reference to the output: output -> function -> output would be a cycle
    _hooks: list[Callable] | None = None
    _recording = False
    _saved: tuple = ()  # the arguments of `save`, until `apply` makes a record of them
    _record: Saved | None = None
    _create_graph = False

    def forward(self, *arrays: Any, **parameters: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a forward method")

    def backward(self, gy: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no backward: it cannot be differentiated")

    def backward_graph(self, gy: Any) -> Any:
        return self.backward(gy)

    def save(self, *arrays: Any) -> None:
        """Keep arrays for backward. If no gradient can be needed later, nothing is kept.

        Save the inputs and the output themselves: with create_graph, `saved` returns the Tensors they belong to. An
        array computed from them comes back as a constant, and second derivatives would be wrong.
        """
        if self._recording:
            self._saved = arrays

    @property
    def saved(self) -> tuple:
        """The saved arrays; in a backward pass with create_graph, the Tensors they belong to."""
        self._inputs_or_error()
        assert self._record is not None  # it is freed together with the inputs
        self._record.check()
        return self._record.tensors(self._output) if self._create_graph else self._record.arrays

    def _output(self, data: Any, version: Version) -> Tensor:
        """The output tensor. It is rebuilt from the saved array if the user no longer holds it."""
        out = self._out()
        if out is None:
            out = Tensor(data)
            out._requires_grad, out.creator, out._version = True, self, version
            self._out = weakref.ref(out)
        return out

    @classmethod
    def op_name(cls) -> str:
        """The name of the operation for messages: the name of its op folder, or else of its class."""
        module = cls.__module__.split(".")
        return module[2] if module[:2] == ["tinynet", "ops"] else cls.__name__.strip("_").lower()

    @classmethod
    def apply(cls, *args: Any, **parameters: Any) -> Any:
        """Run the operation. Tensors among `args` make the result a Tensor; plain arrays give a plain array."""
        # Lists, not generators: a short step spends a third of its time in this engine.
        function = cls()
        inputs = [a for a in args if isinstance(a, Tensor)]
        arrays = [a._data if isinstance(a, Tensor) else _plain(cls, a) for a in args]
        function.needs_grad = tuple([isinstance(a, Tensor) and a._requires_grad for a in args])
        function._recording = True in function.needs_grad and is_grad_enabled()
        try:
            result = function.forward(*arrays, **parameters)
        except MemoryError as error:
            raise named_error(cls.op_name(), error) from None
        if result is None:
            raise TypeError(f"{cls.__name__}.forward returned None: does it, or a kernel it calls, lack its `return`?")
        if not inputs:
            return result
        data, *extra = result if isinstance(result, tuple) else (result,)
        out = Tensor(data)
        for tensor in inputs:  # a view (reshape, slice) shares the version of its tensor
            if is_view(data, tensor._data):
                out._version = tensor._version
        if function._recording and out._data.dtype.kind == "f":
            out._requires_grad = True
            out.creator = function
            function._out = weakref.ref(out)
            function.inputs = tuple([a.node if needed else None for a, needed in zip(args, function.needs_grad)])
            function._input_kinds = tuple([(a.shape, a.dtype) if isinstance(a, Tensor) else None for a in args])
            function._record = Saved(cls.__name__, function._saved, inputs, data, out._version)
        function._saved = ()
        return (out, *map(Tensor, extra)) if isinstance(result, tuple) else out

    def _gradients(self, gy: Any, create_graph: bool) -> list[tuple[Node, Any]]:
        """Run backward, and pair each gradient with the node it belongs to."""
        inputs = self._inputs_or_error()
        self._create_graph = create_graph
        try:
            gradients = self.backward_graph(gy) if create_graph else self.backward(gy)
        except MemoryError as error:
            raise named_error(self.op_name(), error) from None
        finally:
            self._create_graph = False
        gradients = self._checked(gradients, inputs)
        return [(node, g) for node, g in zip(inputs, gradients) if node is not None and g is not None]

    def _checked(self, gradients: Any, inputs: tuple[Node | None, ...]) -> tuple:
        """The gradients that backward returned. Raises RuntimeError if their number, a shape or a dtype is wrong."""
        name = type(self).__name__
        if gradients is None:
            raise RuntimeError(f"{name}.backward returned None: does it, or a kernel it calls, lack its `return`?")
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        if len(gradients) != len(inputs):
            raise RuntimeError(
                f"{name}.backward returned {len(gradients)} gradients, forward has {len(inputs)} arguments"
            )
        for i, (node, g, kind) in enumerate(zip(inputs, gradients, self._input_kinds)):
            if node is not None and g is not None and (g.shape, g.dtype) != kind:
                raise RuntimeError(
                    f"{name}.backward returned a gradient {g.dtype}{list(g.shape)} where input {i} "
                    f"is {kind[1]}{list(kind[0])}"
                )
        return gradients

    def _inputs_or_error(self) -> tuple[Node | None, ...]:
        if self.inputs is None:
            raise RuntimeError(
                f"{type(self).__name__}: the graph was freed by an earlier backward(). Call backward() once, "
                "or pass retain_graph=True to the first call"
            )
        return self.inputs

    def _release(self) -> None:
        """Drop inputs and saved arrays, so that activations are freed during the backward pass."""
        self.inputs = self._record = None


def _plain(cls: type[Function], argument: Any) -> Any:
    """An argument that is no Tensor: an array as kernels take it, anything else unchanged."""
    if not hasattr(argument, "dtype"):
        return argument
    try:
        return plain_array("an array", argument if isinstance(argument, np.generic) else _array(argument))
    except TypeError as error:  # only now: making the message takes longer than the check
        raise TypeError(f"{cls.op_name()}: {error}") from None


Node = Tensor | Function


# ------------------------------------------------------------------------------------ the backward pass
def _propagate(
    root: Tensor,
    gradient: Any,
    create_graph: bool,
    retain_graph: bool | None,
    deliver: Callable[[Node, Any], None],
) -> None:
    """Run the backward pass: compute gradients from `root` down the graph and call `deliver` for each node."""
    if not root.requires_grad:
        raise RuntimeError("backward: the tensor has no history (nothing it was computed from requires a gradient)")
    gradient = _first_gradient(root, gradient, create_graph)
    retain_graph = create_graph if retain_graph is None else retain_graph

    order = _topological_order(root.node)
    gradients = {id(root.node): gradient}  # of the nodes that are not visited yet
    with grad_mode(create_graph):
        while order:
            node = order.pop()
            g = gradients.pop(id(node), None)
            if g is None:  # no gradient arrives here
                continue
            if isinstance(g, np.generic):  # what NumPy makes of arrays without axes; kernels are given arrays
                g = np.asarray(g)
            g = _run_hooks(node, g, create_graph)
            deliver(node, g)
            if isinstance(node, Tensor):  # a leaf
                continue
            contributions = node._gradients(g, create_graph)
            if not retain_graph:
                node._release()
            g = None  # free it before the additions: it may be large
            _add_to(gradients, contributions)
            del contributions


def _topological_order(root: Node) -> list[Node]:
    """All nodes below `root` that require a gradient, each after the nodes it was computed from.

    A leaf stands directly before the first function that reads it. The backward pass goes from the end to the start,
    so it delivers the gradient of a weight as soon as this gradient is complete, not after all layers below.

    Depth-first with an explicit stack: recursion would overflow on deep graphs. A node comes off the stack twice. The
    second time all its inputs are in the order, and the node is appended.
    """
    order: list[Node] = []
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(root, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            if isinstance(node, Function) and node.inputs is not None:
                inputs = [n for n in node.inputs if n is not None]
                inputs.sort(key=lambda n: isinstance(n, Function))  # leaves first, so they come off the stack last
                stack.extend((n, False) for n in inputs)
    return order


def _add_to(gradients: dict[int, Any], contributions: list[tuple[Node, Any]]) -> None:
    """Add gradients to those of the same node: a tensor that is used twice gets the sum of both gradients."""
    for node, contribution in contributions:
        known = gradients.get(id(node))
        if known is None:
            gradients[id(node)] = contribution
        else:
            gradients[id(node)] = add_gradients(known, contribution)


# ------------------------------------------------------------------------------------ beside the pass: checks, hooks
def _first_gradient(root: Tensor, gradient: Any, create_graph: bool) -> Any:
    """dL/d(root), where the backward pass starts: the argument `gradient`, or 1 for a single element."""
    if gradient is None:
        if root.size != 1:
            raise RuntimeError(
                f"backward: the tensor has shape {root.shape}; only a single element has an obvious gradient. "
                "Reduce it (.sum(), .mean()) or pass gradient="
            )
        gradient = array_module(root.data).ones_like(root.data)
    if isinstance(gradient, Tensor):
        if gradient.dtype != root.dtype:
            raise TypeError(f"backward: gradient is {gradient.dtype}, the tensor is {root.dtype}")
    else:
        if hasattr(gradient, "dtype"):
            gradient = plain_array("backward: gradient", gradient)
        gradient = Tensor(array_module(root.data).asarray(gradient, dtype=root.dtype))
    if gradient.shape != root.shape:
        raise ValueError(f"backward: gradient has shape {gradient.shape}, the tensor has {root.shape}")
    return gradient if create_graph else gradient.data


def _run_hooks(node: Node, gradient: Any, create_graph: bool) -> Any:
    """Call the hooks of a tensor with its complete gradient; a hook may return another gradient to use instead."""
    for hook in tuple(node._hooks or ()):
        result = hook(gradient if create_graph else Tensor(gradient))
        if result is not None:
            if result.shape != gradient.shape or result.dtype != gradient.dtype:
                raise ValueError(
                    f"hook returned a gradient {result.dtype}{list(result.shape)}, "
                    f"the tensor is {gradient.dtype}{list(gradient.shape)}"
                )
            gradient = result.data if isinstance(result, Tensor) and not create_graph else result
    return gradient


def grad(
    y: Tensor,
    x: Tensor | Sequence[Tensor],
    gradient: Any = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Any:
    """dy/dx as a Tensor (a list of them for a list of x), without touching any `.grad`.

    y: a tensor with history; x: tensors y was computed from, leaves or not. gradient, create_graph and
    retain_graph, and the errors, as in `Tensor.backward`. If y does not depend on an x, its gradient is zeros.
    Raises ValueError if an x is not a Tensor or requires no gradient.
    """
    wanted = [x] if isinstance(x, Tensor) else list(x)
    for i, t in enumerate(wanted):
        if not (isinstance(t, Tensor) and t.requires_grad):
            raise ValueError(f"grad: x[{i}] must be a Tensor that requires a gradient")
    found: dict[int, Any] = {}
    ids = {id(t.node) for t in wanted}

    def deliver(node: Node, gradient: Any) -> None:
        if id(node) in ids:
            found[id(node)] = gradient

    _propagate(y, gradient, create_graph, retain_graph, deliver)
    result = []
    for t in wanted:
        g = found.get(id(t.node))
        g = array_module(t.data).zeros_like(t.data) if g is None else g
        result.append(g if isinstance(g, Tensor) else Tensor(g))
    return result[0] if isinstance(x, Tensor) else result
