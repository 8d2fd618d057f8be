"""Transformer blocks as torch.compile makes them: the small kernels between the matrix products become one."""

import time
from typing import Any

import torch
from torch import nn

from engine.memory.recompute import transformer_blocks

VARIANTS = 64


class CompileError(ValueError):
    """This machine cannot compile; says why."""


class Clock:
    """Seconds that compiling took, of all threads together, from when the clock was made."""

    def __init__(self) -> None:
        from torch._dynamo.callback import on_compile_end, on_compile_start  # 2 s, for whoever compiles

        self._began, self._spent = 0.0, 0.0
        on_compile_start(self._start)
        on_compile_end(self._end)

    def take(self) -> float:
        """Since the last time it was asked."""
        spent, self._spent = self._spent, 0.0
        return spent

    def _start(self, _: object) -> None:
        self._began = time.monotonic()

    def _end(self, _: object) -> None:
        self._spent += time.monotonic() - self._began


def require_compiler(device: torch.device) -> None:
    """Compiles a line. Raises CompileError where that fails: a C compiler and Python's headers are needed."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    try:
        torch.compile(lambda x: x.sin() + 1)(torch.zeros(8, device=device))
    except (TorchDynamoException, InductorError, OSError) as error:
        raise CompileError(str(error).strip().partition("\n")[0]) from error


def compile_blocks(unet: Any) -> None:
    """Of `unet` (a UNet2DConditionModel), each transformer block when it is first called: once for all blocks of a
    width and every size of picture, but again for one sample and for several, for who learns, and without a graph. What
    a fused kernel does not store in between it does not round to bf16 either: the numbers are others, by no more than
    rounding."""
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, VARIANTS)  # beyond it blocks are not compiled, silently
    for block in transformer_blocks(unet):
        assert isinstance(block, nn.Module)
        block.compile(dynamic=True)
