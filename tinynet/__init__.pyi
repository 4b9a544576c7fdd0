# ruff: noqa: I001  (several names to a line)
from . import data as data, nn as nn, nuclei as nuclei
from .backends import cuda as cuda, cusim as cusim
from .engine import basic_ops as basic_ops, random as random
from .engine.basic_ops import abs as abs, add as add, all as all, any as any, argmax as argmax, argmin as argmin
from .engine.basic_ops import astype as astype, broadcast_to as broadcast_to, clip as clip, div as div, equal as equal
from .engine.basic_ops import exp as exp, expand_dims as expand_dims, flatten as flatten, getitem as getitem
from .engine.basic_ops import greater as greater, greater_equal as greater_equal, less as less, less_equal as less_equal
from .engine.basic_ops import log as log, log_softmax as log_softmax, logical_and as logical_and
from .engine.basic_ops import logical_not as logical_not, logical_or as logical_or, logsumexp as logsumexp, max as max
from .engine.basic_ops import maximum as maximum, mean as mean, min as min, minimum as minimum, mul as mul, neg as neg
from .engine.basic_ops import not_equal as not_equal, pad as pad, pow as pow, reshape as reshape, sign as sign
from .engine.basic_ops import scatter_add as scatter_add
from .engine.basic_ops import softmax as softmax, sqrt as sqrt, squeeze as squeeze, sub as sub, sum as sum
from .engine.basic_ops import sum_to as sum_to, swapaxes as swapaxes, transpose as transpose, var as var, where as where
from .engine.random import seed as seed
from .engine.saved import check_saved_arrays as check_saved_arrays
from .imaging import boxes as boxes, instances as instances, metrics as metrics, registration as registration
from .imaging import segment as segment, viz as viz
from .imaging.graph import draw_graph as draw_graph
from .learn import exercises as exercises
from .learn.gradcheck import gradcheck as gradcheck, gradgradcheck as gradgradcheck
from .nn import optim as optim
from .ops import Function as Function, Tensor as Tensor, backend as backend, device as device, grad as grad
from .ops import is_grad_enabled as is_grad_enabled, no_grad as no_grad, tensor as tensor, use_backend as use_backend
from .ops import use_kernels as use_kernels
from .ops._composed.creation import arange as arange, eye as eye, full as full, linspace as linspace, ones as ones
from .ops._composed.creation import ones_like as ones_like, rand as rand, randint as randint, randn as randn
from .ops._composed.creation import zeros as zeros, zeros_like as zeros_like
from .ops._composed.correlation import ncc_loss as ncc_loss
from .ops._composed.functions import cat as cat, ceil as ceil, clone as clone, cos as cos, cumsum as cumsum
from .ops._composed.functions import einsum as einsum, floor as floor, norm as norm, prod as prod, round as round
from .ops._composed.functions import sin as sin, sort as sort, std as std, topk as topk
from .ops._composed.layers import group_norm as group_norm
from .ops._composed.losses import focal_loss as focal_loss, hardest_mean as hardest_mean, hinge_loss as hinge_loss
from .ops._composed.losses import smooth_l1_loss as smooth_l1_loss, softmax_dice_loss as softmax_dice_loss
from .ops.activations.entries import elu as elu, leaky_relu as leaky_relu, relu as relu, sigmoid as sigmoid
from .ops.activations.entries import relu6 as relu6, softplus as softplus, tanh as tanh
from .ops.avg_pool2d.op import avg_pool2d as avg_pool2d
from .ops.avg_pool2d.volumes import avg_pool3d as avg_pool3d
from .ops.batch_norm.op import batch_norm as batch_norm
from .ops.bce_with_logits.op import bce_with_logits as bce_with_logits
from .ops.concat.op import concat as concat, stack as stack
from .ops.conv2d.op import conv2d as conv2d
from .ops.conv3d.op import conv3d as conv3d, conv_transpose3d as conv_transpose3d
from .ops.conv_transpose2d.op import conv_transpose2d as conv_transpose2d
from .ops.dice.op import dice_loss as dice_loss
from .ops.dropout.op import dropout as dropout
from .ops.local_response_norm.op import local_response_norm as local_response_norm
from .ops.lstm.op import lstm as lstm
from .ops.matmul.op import linear as linear, matmul as matmul
from .ops.max_pool2d.op import max_pool2d as max_pool2d
from .ops.max_pool2d.volumes import max_pool3d as max_pool3d
from .ops.max_unpool2d.op import max_unpool2d as max_unpool2d
from .ops.maxout.op import maxout as maxout
from .ops.prelu.op import prelu as prelu
from .ops.resize.op import resize2d as resize2d, resize3d as resize3d
from .ops.sample.op import affine_grid as affine_grid, grid_sample2d as grid_sample2d, grid_sample3d as grid_sample3d
from .ops.sample.op import warp as warp
from .ops.softmax_cross_entropy.op import softmax_cross_entropy as softmax_cross_entropy
from .tools import cli as cli
from .training import distributed as distributed, io as io, train as train

__version__: str
