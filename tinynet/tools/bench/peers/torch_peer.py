"""PyTorch, eager or by `torch.compile`, from tinynet's initial weights, channels last in memory."""

from __future__ import annotations

import torch

from ..examples import BATCHES, LEARNING_RATE, SEED, Step, batch_of, images_and_masks, new_net, new_unet, unet_sizes
from . import Contestant
from .torch_nets import NETS
from .torch_unet import dice_loss, images_to_torch, net_with, to_torch


def contestant(case: str, threads: int, backend: str = "cpu", compiled: bool = False, tf32: bool = False) -> Contestant:
    """A case in PyTorch; on a GPU with matrix products in strict float32, or in TF32."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True  # cuDNN tries its algorithms and keeps the fastest
    device = "cuda" if backend == "cuda" else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA, or finds no GPU")
    parameters, step = net_step(case) if case in BATCHES else unet_step(case, device, compiled)
    count, versions = sum(p.numel() for p in parameters), {"torch": torch.__version__}
    if device == "cpu":
        return Contestant(step, count, versions)
    return Contestant(step, count, versions, timed_by_events, lambda: torch.cuda.max_memory_reserved() / 1e6)


def unet_step(case: str, device: str, compiled: bool) -> tuple[list[torch.Tensor], Step]:
    """(parameters of the U-Net, one step of it)."""
    mode, batch, size = unet_sizes(case)
    weights = {name: p.numpy() for name, p in new_unet().named_parameters()}
    model = net_with(weights).to(device, memory_format=torch.channels_last)
    model.train(mode == "train")
    run = torch.compile(model) if compiled else model
    images, masks = (images_to_torch(array) for array in images_and_masks(batch, size))
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)

    def train() -> float:
        optimizer.zero_grad()
        loss = dice_loss(run(images.to(device)), masks.to(device))
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer() -> float:
        with torch.inference_mode():
            return run(images.to(device)).cpu().mean().item()

    return list(model.parameters()), train if mode == "train" else infer


def net_step(net: str) -> tuple[list[torch.Tensor], Step]:
    """(parameters of a net of the lectures, one step of training)."""
    make, loss_of = NETS[net]
    model = make().to(memory_format=torch.channels_last)
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for p, weight in zip(parameters, new_net(net)[0].parameters(), strict=True):
            p.copy_(to_torch(weight.numpy()))
    optimizer = torch.optim.AdamW(parameters, LEARNING_RATE)
    x, target = batch_of(net)
    x, target = images_to_torch(x) if x.ndim == 4 else torch.tensor(x), torch.tensor(target)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(model(x), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return parameters, step


def timed_by_events(step: Step) -> tuple[float, float]:
    """(what a step returns, the milliseconds that it took by the GPU's clock)."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    value = step()
    end.record()
    end.synchronize()
    return value, begin.elapsed_time(end)
