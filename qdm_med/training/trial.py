"""Time of a training step, measured before a run so that methods can be trained for equal processor time."""

from __future__ import annotations

import time
from pathlib import Path

from qdm_med import distributed
from qdm_med.training.loop import LoopConfig, Trainer
from qdm_med.training.task import Objective, Task

TRIAL_STEPS = 10
"""Steps that tell how long one takes; the first, in which libraries wake up, does not count."""


def cpu_seconds_per_step(task: Task[Objective], config: LoopConfig) -> float:
    """Processor seconds of a step, measured on the first steps of a run that is not kept.

    Args:
        task: Its networks are trained by these steps: make it anew for the run itself.
        config: How it would be trained.
    """
    trainer = Trainer(task, config, Path())
    spent = []
    for _ in range(1 + TRIAL_STEPS):
        started = time.process_time()
        trainer.take_step()
        spent.append(distributed.sum_of(time.process_time() - started, trainer.device))
    return sum(spent[1:]) / TRIAL_STEPS
