from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor


class Streams:
    """A CUDA stream for each modality, so that several on one card overlap; nothing on other devices.

    Autograd runs the backward pass of a modality on the stream of its forward pass.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self._made: dict[tuple[torch.device, str], torch.cuda.Stream] = {}
        self._used: list[torch.cuda.Stream] = []

    def on(self, device: torch.device, name: str) -> AbstractContextManager[None]:
        """Run a block on the stream of a modality, after what its device was given before."""
        return self._on(device, name) if self.enabled and device.type == "cuda" else nullcontext()

    @contextmanager
    def _on(self, device: torch.device, name: str) -> Iterator[None]:
        key = (device, name)
        if key not in self._made:
            self._made[key] = torch.cuda.Stream(device)
        stream = self._made[key]
        stream.wait_stream(torch.cuda.current_stream(device))
        self._used.append(stream)
        with torch.cuda.stream(stream):
            yield

    def join(self, results: Iterable[Tensor]) -> None:
        """Let the current streams wait for the blocks, whose results they then may read."""
        used, self._used = self._used, []
        for stream in used:
            torch.cuda.current_stream(stream.device).wait_stream(stream)
        if used:
            for result in results:
                if result.device.type == "cuda":
                    result.record_stream(torch.cuda.current_stream(result.device))
