"""How names and keywords of PyTorch and Keras are spelled here: the sentences of errors for what does not exist.

A program that is right pays next to nothing for them: Python asks `__getattr__` only for an attribute that does not
exist, and the arguments of a call are looked at only after a TypeError (0.2 microseconds for each call).
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

# Foreign names: what to write. `Module.add` is for modules only; a name with `=` is a keyword.
TABLE = """
layer_norm: nn.LayerNorm | embedding: nn.Embedding | mse_loss MeanSquaredError: nn.MSELoss
l1_loss MeanAbsoluteError: nn.L1Loss
SparseCategoricalCrossentropy sparse_categorical_crossentropy: nn.CrossEntropyLoss | BinaryCrossentropy: nn.BCELoss
view view_as: x.reshape | permute moveaxis movedim: x.transpose | unsqueeze: x.expand_dims | ravel: x.flatten | t: x.T
mT: x.swapaxes | expand expand_as: x.broadcast_to | numel nelement: x.size | dim rank: x.ndim
clamp clamp_min clamp_max: x.clip | float double half long int bool byte type cast: x.astype('float32')
Module.float Module.double Module.half: model.astype('float32') | linalg: tn.norm | is_cuda: x.device
grad_fn: x.creator | copy: x.clone | amax reduce_max: x.max | amin: x.min | reduce_sum: x.sum | reduce_mean: x.mean
mm bmm dot: tn.matmul | eq: tn.equal | ne: tn.not_equal | lt: tn.less | le: tn.less_equal | gt: tn.greater
ge: tn.greater_equal | multiply: tn.mul | subtract: tn.sub | divide true_divide: tn.div | power: tn.pow
negative: tn.neg | absolute: tn.abs | new_zeros: tn.zeros_like | new_tensor: tn.tensor | is_floating_point: x.dtype
swapdims: x.swapaxes | nbytes itemsize element_size: x.data | concatenate hstack vstack: tn.concat
masked_fill: tn.where | as_tensor from_numpy convert_to_tensor constant Variable array FloatTensor LongTensor: tn.tensor
manual_seed set_seed: tn.seed | empty: tn.zeros | empty_like: tn.zeros_like | normal randn_like: tn.randn
rand_like: tn.rand | full_like: tn.full | cross_entropy: tn.softmax_cross_entropy
binary_cross_entropy_with_logits: tn.bce_with_logits | binary_cross_entropy: nn.BCELoss | Dense: nn.Linear
Conv2D: nn.Conv2d | Conv2DTranspose: nn.ConvTranspose2d | MaxPooling2D: nn.MaxPool2d | AveragePooling2D: nn.AvgPool2d
GlobalAveragePooling2D: nn.GlobalAvgPool2d | BatchNormalization BatchNorm1d: nn.BatchNorm2d | Concatenate: tn.concat
trainable: model.freeze | get_weights: model.state_dict | set_weights: model.load_state_dict
Module.predict evaluate: nn.predict | Module.summary count_params: nn.summary | save save_weights: io.save_weights
load load_weights load_model: io.load_weights | stop_gradient: x.detach | StepLR: optim.StepDecay
RMSProp: optim.RMSprop | MultiStepLR: optim.MultiStepDecay | ExponentialLR: optim.ExponentialDecay
CosineAnnealingLR: optim.CosineDecay | ReduceLROnPlateau: optim.ReduceOnPlateau | OneCycleLR: optim.OneCycle
get_last_lr param_groups: optimizer.lr | random_split: tn.data.split | datasets MNIST: tn.data.read_mnist
clip_grad_norm_: optim.clip_grad_norm | clip_grad_value_: optim.clip_grad_value | Module.requires_grad_: model.freeze
is_tensor: write isinstance(x, tn.Tensor)
repeat tile repeat_interleave: write tn.concat([x, x]), or an index with repetitions, x[[0, 0, 1, 1]]
split chunk unbind: write slices, x[:2] and x[2:], or iterate over x
flip roll gather index_select take_along_axis masked_select: write an index: x[::-1], x[rows, columns], x[mask]
contiguous is_contiguous stride data_ptr: leave it out; every operation takes every memory layout
cpu cuda: write .to('cpu') or .to('cuda'), for tensors and for models
bernoulli randperm multinomial: draw with NumPy: np.random.default_rng(0).permutation(n)
square log2 log10 log1p expm1 rsqrt reciprocal outer: write it with x * y, tn.log, tn.exp, tn.sqrt and 1 / x
values indices: x.max(axis) is the values only; x.argmax(axis) has the indices, tn.topk(x, 1, axis) gives both
tan erf atan2 fmod remainder trunc: there is none; a tn.Function for it takes twelve lines: see CONTRIBUTING.md
argsort: write tn.sort(x)[1] | LambdaLR: write a subclass of optim.Schedule with a method factor(step)
normalize cosine_similarity: write x / tn.norm(x, axis=1, keepdims=True), and sums of products
one_hot to_categorical: write tn.eye(classes)[labels]; losses take the numbers of the classes
functional: the functions are in tinynet: tn.relu, tn.conv2d, tn.softmax
compile jit vmap cudnn autocast synchronize: leave it out
DataParallel DistributedDataParallel: write tn.distributed.DataParallel(model), or a Trainer under mpiexec
set_num_threads: set NUMBA_NUM_THREADS in the environment, or --threads of a script
nll_loss NLLLoss CategoricalCrossentropy: write nn.CrossEntropyLoss(), of logits and class numbers
gelu silu GELU SiLU Activation: there is none; use nn.ELU or nn.LeakyReLU, or add one: see CONTRIBUTING.md
Conv1d Conv1D conv1d: write nn.Conv2d(in_channels, out_channels, (1, 3)) for x of shape (N, 1, L, C)
AdaptiveAvgPool2d adaptive_avg_pool2d: write nn.GlobalAvgPool2d(), whose result is (N, C)
Upsample UpSampling2D interpolate: write tn.resize2d(x, size), or nn.ConvTranspose2d(channels, channels, 2, stride=2)
ZeroPad2d ZeroPadding2D: write padding=1 in the layer, or tn.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
Input Model models layers keras: write nn.Sequential(...), or a class with nn.Module; a layer takes its sizes, no Input
xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ normal_: write nn.Linear(3, 4, init=nn.init.he_normal)
register_buffer: set an attribute that is an array, and list its name in `buffer_names` of the class
register_parameter Module.add_module Module.add: set an attribute, or use nn.Sequential and nn.Parameter
register_forward_hook: write with nn.observe(callback): ...
Module.apply: write for _, part in model.named_modules(): ...
Module.compile fit train_on_batch: write loss.backward() and optimizer.step(), or train.Trainer(...).fit(loader, 5)
autograd GradientTape gradient: write loss.backward(), or tn.grad(loss, x); operations are always recorded
enable_grad inference_mode set_grad_enabled: write with tn.no_grad(): ...
optimizers lr_scheduler: write optim.Adam(parameters, lr=1e-3), optim.StepDecay(optimizer, 10)
Adagrad Adadelta Adamax NAdam LBFGS: there is none; use optim.Adam or optim.RMSprop
GroupNormalization: nn.GroupNorm | InstanceNorm1d InstanceNorm2d InstanceNorm3d instance_norm: nn.InstanceNorm
MultiheadAttention LSTMCell AdaptiveMaxPool2d TransformerEncoder: there is none
TransformerEncoderLayer special inverse set_default_dtype hub onnx amp: there is none
HuberLoss huber_loss Huber: write nn.SmoothL1Loss(beta=d)(x, y) * d
HingeEmbeddingLoss MarginRankingLoss MultiMarginLoss Hinge: tn.hinge_loss
sigmoid_focal_loss BinaryFocalCrossentropy: tn.focal_loss
scatter scatter_ scatter_add_ index_add index_add_: write tn.scatter_add(x, index, values), index as in x[index]
kl_div KLDivLoss distributions: there is none; write it with tn.where, tn.log, ...
minimize apply_gradients: write loss.backward() and optimizer.step()
utils Dataset TensorDataset Subset: tn.data.DataLoader takes a list of tuples, or what has __len__ and item(index, rng)
callbacks: write train.Trainer(...).fit(..., on_epoch=function)
losses: write nn.CrossEntropyLoss() or tn.dice_loss(p, target)
dim= dims= axes=: axis= | keepdim=: keepdims= | unbiased= correction=: ddof= | input=: x= | other=: y= | size=: shape=
tensors=: arrays= | min= a_min=: low= | max= a_max=: high= | ord=: p= | num=: steps= | filters=: out_channels=
units= output_dim=: out_features= | input_dim= input_size=: in_features= | hidden_size=: hidden= | num_layers=: layers=
strides=: stride= | pool_size=: kernel_size= | dilation_rate=: dilation= | use_bias=: bias= | kernel_initializer=: init=
num_features= num_channels= num_parameters=: channels= | num_groups=: groups= | num_embeddings=: count=
embedding_dim= normalized_shape=: features= | epsilon=: eps=
negative_slope=: slope= | rate=: p= | learning_rate=: lr= | beta_1= beta_2=: betas= | step_size=: every=
gamma= factor=: decay= | T_max= total_steps=: total= | eta_min=: floor= | num_workers=: workers= | collate_fn=: collate=
scheduler= lr_scheduler=: schedule= | optim=: optimizer= | criterion= loss_fn=: loss=
device=: write .to('cuda') afterwards | activation=: write nn.ReLU(), as a layer of its own
batch_first= return_sequences=: leave it out; sequences are (N, T, F), and outputs and last state are returned
affine= track_running_stats=: leave it out; there are always gamma, beta and running averages
start_dim=: write x.reshape(len(x), -1), or nn.Flatten()
inplace= set_to_none= pin_memory= persistent_workers= input_shape= data_format= fused=: leave it out
"""


@functools.cache
def table() -> dict[str, str]:
    """Foreign name, or keyword with `=` behind it -> the answer."""
    answers: dict[str, str] = {}
    for entry in TABLE.strip().replace("\n", " | ").split(" | "):
        names, _, answer = entry.partition(": ")
        answers |= dict.fromkeys(names.split(), answer if " " in answer else f"write {answer}")
    return answers


def answer(name: str, kinds: Iterable[str] = ()) -> str | None:
    """What to write for a foreign name, or for a name that exists elsewhere in tinynet; None for any other.

    kinds: `Module.add` is found if "Module" is one of them.
    """
    answers = table()
    for key in (*(f"{kind}.{name}" for kind in kinds), name):
        if key in answers:
            return answers[key]
    for short, module in {"tn": "tinynet", "nn": "tinynet.nn", "optim": "tinynet.nn.optim"}.items():
        if name in dir(sys.modules.get(module)):
            return f"write {short}.{name}"
    if name in dir(sys.modules["tinynet.engine.tensor"].Tensor):
        return f"write x.{name}: it is a method of a Tensor"
    if hasattr(np, name):
        is_function = callable(getattr(np, name)) and not isinstance(getattr(np, name), type)
        return f"write np.{name}" + "(x.numpy()), without a gradient" * is_function
    return "write x = ..., or inside of `with tn.no_grad():` x += y, x[...] = y" if name.endswith("_") else None


def _near(name: str, known: Iterable[str]) -> str | None:
    similar = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], n=1, cutoff=0.7)
    return f"did you mean {similar[0]}?" if similar else None


def missing(name: str, owner: Any) -> AttributeError:
    """The error for an attribute that a module or an object does not have."""
    kinds = [kind.__name__ for kind in type(owner).__mro__]
    reply = None
    if not name.startswith("_"):  # libraries often look for private names, such as `_repr_html_`: no search for these
        reply = answer(name, kinds) or _near(name, dir(owner))
    label = owner.__name__.rpartition(".")[2] if isinstance(owner, ModuleType) else kinds[0]
    return AttributeError(f"{label} has no attribute {name!r}" + (f": {reply}" if reply else ""), name=name)


def module_getattr(module: str) -> Callable[[str], NoReturn]:
    """A module's `__getattr__`: it raises the error of `missing`."""

    def __getattr__(name: str) -> NoReturn:
        raise missing(name, sys.modules[module])

    return __getattr__


class NamesExplained:
    """A base class: an attribute that does not exist raises the error of `missing`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property raised an AttributeError of its own: raise that one again
            return object.__getattribute__(self, name)
        raise missing(name, self)


class _SignatureOfInit:
    """`inspect.signature` of a class: the parameters of its `__init__`, as if the class had no `__new__`."""

    def __get__(self, instance: Any, owner: Any) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")
        init = owner.__init__
        return inspect.Signature() if init is object.__init__ else inspect.signature(functools.partial(init, None))


class CallsExplained(NamesExplained):
    """A base class: creating an object with arguments that do not fit raises the error of `explain_call`."""

    __signature__ = _SignatureOfInit()

    def __new__(cls, *args: Any, **keywords: Any) -> Any:
        if args or keywords:  # pickle and copy give none
            explain_call(cls.__name__, cls, args, keywords)
        return super().__new__(cls)


def explained(function: Callable, module: str, qualname: str) -> Callable:
    """The function; a call whose arguments do not fit raises the error of `explain_call`.

    module, qualname: where pickle finds the returned function.
    """

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        try:
            return function(*args, **keywords)
        except TypeError:
            explain_call(function.__name__, function, args, keywords)
            raise

    call.__module__, call.__qualname__ = module, qualname
    return call


def explain_call(name: str, function: Callable, args: tuple, keywords: dict[str, Any]) -> None:
    """Raise a TypeError that says how `function` is called, if the arguments do not fit its parameters."""
    signature = inspect.signature(function)
    parameters = signature.parameters
    try:
        signature.bind(*args, **keywords)
    except TypeError as error:
        problem = str(error)
        for keyword in keywords.keys() - parameters.keys():
            reply = table().get(f"{keyword}=")
            if reply is None or (reply.endswith("=") and reply[len("write ") : -1] not in parameters):
                reply = _near(keyword, parameters)
            problem = f"there is no keyword {keyword}=" + (f": {reply}" if reply else "")
        plain = [p.replace(annotation=p.empty) for p in parameters.values()]
        usual = ", ".join(f"{p.name}=..." if inspect.isfunction(p.default) else str(p) for p in plain)
        end = " " if problem.endswith("?") else ". "
        first_line = (function.__doc__ or "").partition("\n")[0]
        raise TypeError(f"{name}: {problem}{end}The call is {name}({usual}). {first_line}") from None
