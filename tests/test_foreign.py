"""Foreign names and keywords: the errors say how they are spelled here, and the table agrees with what exists."""

import copy
import inspect
import pickle
import re
from types import ModuleType

import numpy as np
import pytest

import tinynet as tn
from tinynet import nn, optim
from tinynet.engine import foreign

OWNERS = {
    **{"tn": tn, "nn": nn, "optim": optim, "x": tn.Tensor, "model": nn.Module, "optimizer": optim.Optimizer},
    **{"np": np, "io": tn.io, "train": tn.train, "init": nn.init, "data": tn.data},
}
INSTANCE_ATTRIBUTES = {"optimizer.lr"}
X = tn.tensor([[1.0, 2.0], [3.0, 4.0]])
NET = nn.Sequential(nn.Linear(2, 3), nn.ReLU())


def parameters(owner) -> set[str]:
    found = set()
    for value in map(lambda name: getattr(owner, name), dir(owner)):
        is_ours = getattr(value, "__module__", "").startswith("tinynet")
        if is_ours and callable(value) and not (isinstance(value, type) and issubclass(value, Exception)):
            found |= inspect.signature(value).parameters.keys()
    return found


KEYWORDS = set().union(*map(parameters, (tn, nn, optim, tn.data, tn.train)))


@pytest.mark.parametrize(("name", "answer"), foreign.table().items())
def test_the_table_agrees_with_what_exists(name, answer):
    for owner, attribute in re.findall(r"\b(\w+)\.([A-Za-z]\w+)", answer):
        if owner in OWNERS and f"{owner}.{attribute}" not in INSTANCE_ATTRIBUTES:
            assert hasattr(OWNERS[owner], attribute), answer
    if name.endswith("="):
        here = answer.removeprefix("write ")
        assert name[:-1] not in KEYWORDS & {"dim", "keepdim"} and (not here.endswith("=") or here[:-1] in KEYWORDS)
    elif "." in name:
        assert not hasattr(nn.Module, name.removeprefix("Module."))
    else:
        found = [getattr(OWNERS[owner], name, None) for owner in ("tn", "nn", "optim", "x")]
        assert all(value is None or isinstance(value, ModuleType) for value in found), f"{name} exists here"


def test_the_table_is_long_and_has_no_name_twice():
    entries = foreign.TABLE.strip().replace("\n", " | ").split(" | ")
    names = [name for entry in entries for name in entry.split(": ")[0].split()]
    assert len(names) > 200 and len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: X.view(4), "Tensor has no attribute 'view': write x.reshape"),
        (lambda: nn.Parameter(X.data).permute, "Parameter has no attribute 'permute': write x.transpose"),
        (lambda: tn.unsqueeze, "tinynet has no attribute 'unsqueeze': write x.expand_dims"),
        (lambda: tn.float32, "tinynet has no attribute 'float32': write np.float32$"),
        (lambda: X.isnan(), r"write np.isnan\(x.numpy\(\)\), without a gradient"),
        (lambda: nn.Dense, "nn has no attribute 'Dense': write nn.Linear"),
        (lambda: optim.lr_scheduler, r"write .*optim.StepDecay\(optimizer, 10\)"),
        (lambda: NET.add, "Sequential has no attribute 'add': set an attribute"),
        (lambda: NET.fit, r"write loss.backward\(\) and optimizer.step\(\)"),
        (lambda: nn.init.xavier_uniform_, "init=nn.init.he_normal"),
        (lambda: tn.random.manual_seed, "random has no attribute 'manual_seed': write tn.seed"),
        (lambda: tn.data.TensorDataset, "tn.data.DataLoader takes a list of tuples"),
        (lambda: tn.Linear, "tinynet has no attribute 'Linear': write nn.Linear"),
        (lambda: nn.Adam, "nn has no attribute 'Adam': write optim.Adam"),
        (lambda: nn.relu, "nn has no attribute 'relu': write tn.relu"),
        (lambda: X.sigmoid, "Tensor has no attribute 'sigmoid': write tn.sigmoid"),
        (lambda: tn.item, "write x.item: it is a method of a Tensor"),
        (lambda: X.squeeze_, r"inside of `with tn.no_grad\(\):` x \+= y"),
        (lambda: X.reshpe, "did you mean reshape?"),
        (lambda: tn.tensr, "did you mean tensor?"),
        (lambda: NET.paramters, "did you mean parameters?"),
        (lambda: optim.Adam(NET.parameters()).zero_gard, "did you mean zero_grad?"),
    ],
)
def test_names(wrong, message):
    with pytest.raises(AttributeError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: X.sum(dim=1),
            r"^sum: there is no keyword dim=: write axis=. The call is sum\(x, axis=None",
        ),
        (lambda: tn.sum(X, dim=1), "^sum: there is no keyword dim=: write axis="),
        (lambda: X.mean(1, keepdim=True), "keepdim=: write keepdims="),
        (lambda: tn.softmax(X, dim=1), "dim=: write axis="),
        (
            lambda: tn.reshape(X, dim=1),
            r"keyword dim=\. The call is reshape\(x, \*shape\)\. x with another shape",
        ),
        (lambda: tn.sum(X, axsi=1), r"axsi=: did you mean axis\? The call is"),
        (lambda: tn.flatten(X, 1), r"^flatten: too many positional arguments. The call is flatten\(x\)"),
        (lambda: nn.Linear(units=3), "^Linear: there is no keyword units=: write out_features="),
        (lambda: nn.Linear(3), "^Linear: missing a required argument: 'out_features'"),
        (lambda: nn.Conv2d(3, 8, 3, strides=2), "strides=: write stride="),
        (lambda: nn.Conv2d(3, 8, kernal_size=3), "kernal_size=: did you mean kernel_size?"),
        (lambda: nn.ReLU(inplace=True), r"^ReLU: there is no keyword inplace=: leave it out. The call is ReLU\(\)"),
        (lambda: optim.Adam(NET.parameters(), learning_rate=1e-3), "^Adam: .* learning_rate=: write lr="),
        (lambda: optim.StepDecay(None, step_size=3), "step_size=: write every="),
        (lambda: tn.data.DataLoader([1], 1, num_workers=2), "num_workers=: write workers="),
        (lambda: tn.train.Trainer(NET, None, None, "out", scheduler=None), "scheduler=: write schedule="),
        (lambda: X.size(0), r"write x.shape, or x.shape\[0\]"),
    ],
)
def test_calls(wrong, message):
    with pytest.raises(TypeError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("import tinynet.nn.functional as F", "the functions are in tinynet: tn.relu"),
        ("from tinynet.nn import functional as F", "the functions are in tinynet: tn.relu"),
        ("from tinynet.nn import Dense", "there is no tinynet.nn.Dense: write nn.Linear"),
        ("from tinynet.optim.lr_scheduler import StepLR", "optim.StepDecay"),
        ("from tinynet.utils.data import DataLoader", "tn.data.DataLoader"),
        ("from tinynet import keras", "write nn.Sequential"),
    ],
)
def test_imports(statement, message):
    with pytest.raises(ImportError, match=message):
        exec(statement)


def test_a_type_error_from_inside_of_a_function_stays():
    with pytest.raises(TypeError, match=r"^add: x is float32, y is float64"):
        tn.add(np.ones(2, np.float32), np.ones(2))


def test_an_attribute_error_from_inside_of_a_property_stays():
    class Broken(nn.Module):
        @property
        def width(self):
            return self.layer.width

    with pytest.raises(AttributeError, match="Broken has no attribute 'layer'"):
        _ = Broken().width


def test_probes_get_plain_answers():
    for thing in (X, NET, tn, nn, optim, optim.Adam(NET.parameters())):
        for probe in ("_repr_html_", "__array_interface__", "__cuda_array_interface__", "_ipython_display_", "missing"):
            assert not hasattr(thing, probe) and getattr(thing, probe, 7) == 7
        with pytest.raises(AttributeError, match=r"attribute '?_repr_html_'?$"):
            _ = thing._repr_html_
    assert str(inspect.signature(nn.ReLU)) == "()" and "channels" in inspect.signature(nn.BatchNorm2d).parameters
    assert "inputs" in inspect.signature(NET).parameters
    assert inspect.signature(tn.sum).parameters.keys() == {"x", "axis", "keepdims"} and "axis" in tn.sum.__doc__


def test_copies_and_pickles():
    for again in (copy.deepcopy(NET), pickle.loads(pickle.dumps(NET))):
        assert (again(X) == NET(X)).all()
    assert pickle.loads(pickle.dumps(tn.sum)) is tn.sum is tn.sum
    assert pickle.loads(pickle.dumps(tn)) is tn  # joblib, dask and ray send the modules that a function uses
    assert pickle.loads(pickle.dumps(tn.Tensor.sum)) is tn.Tensor.sum
    optim.Adam.__new__(optim.Adam)  # as copy does: an empty object, whose attributes are missing


def test_habits_that_would_be_silent_are_refused():
    for op in (lambda: X.max(1), lambda: tn.min(X, 0, keepdims=True)):
        with pytest.raises(TypeError, match=r"max and min return the values only\. Write values, indices = x.max"):
            _values, _indices = op()
    with pytest.raises(ValueError, match=r"axes \(0, 1\) would leave a matrix as it is; write x.T or swapaxes"):
        X.transpose(0, 1)
    assert X.transpose((0, 1)) is X and X.transpose(1, 0).tolist() == X.T.tolist()
    with pytest.raises(ValueError, match=r"pad: widths \(\(1,\), \(1,\)\) for x"):
        tn.pad(X, (1, 1))
