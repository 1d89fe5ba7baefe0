"""Train HyperLearn in float64, with or without a launcher; save, resume, and die where asked to: see test_torchrun.py.

    train.py FOLDER RESULT STEPS [RANK:STEP ...]

Saves into FOLDER after every second step and goes on from there; in the first attempt RANK kills itself before it takes
STEP, in the second that of the second pair. RESULT takes the whole state and the losses of the last attempt, by step.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from hyperlearn_pyg import HyperLearn
from hyperlearn_pyg.datasets import SyntheticMultiModal, SyntheticRelation
from hyperlearn_pyg.distributed import ModalityParallel

folder, result, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rank, attempt = int(os.environ.get("RANK", "0")), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
kills = dict(enumerate(sys.argv[4:]))
if "RANK" in os.environ:
    dist.init_process_group("gloo")

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
relations = {"rates": SyntheticRelation(("user", "item"), 60), "tags": SyntheticRelation(("user", "tag"), 40)}
data = SyntheticMultiModal({"user": 12, "item": 10, "tag": 6}, relations, seed=1)[0]
module = HyperLearn.from_data(data, 4).double()
model = ModalityParallel(module, seed=7, timeout=60.0 if dist.is_initialized() else None)
inputs = model.prepare(data, ("train",))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
found = model.load(folder, optimizer=optimizer)
losses = {}
for step in range(found["step"] if found else 0, steps):
    if kills.get(attempt) == f"{rank}:{step}":
        Path(f"{result}.hit-{attempt}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    optimizer.zero_grad()
    loss = model.loss(inputs, generator=torch.Generator().manual_seed(step))
    loss.backward()
    optimizer.step()
    losses[step] = loss.item()
    if (step + 1) % 2 == 0:
        model.save(folder, step + 1, optimizer=optimizer, keep=2)
state = model.full_state_dict()
if rank == 0:
    torch.save({"state": state, "losses": losses, "attempt": attempt}, result)
if dist.is_initialized():
    dist.barrier()
    dist.destroy_process_group()
