"""Distributed training of one model on one machine, by ``torch.distributed``.

All processes read the same data, build the same model and draw the same batches. Each trains on its own rows of every
batch. DistributedDataParallel averages their gradients, weighted by the number of targets, so a step equals that of a
single process with the whole batch. The main process alone does the rest, evaluation included, by the same code as
without distribution: it is a small part of the work, and results cannot depend on the number of processes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessException, start_processes
from torch.nn.parallel import DistributedDataParallel

from recbole_llm_interest.errors import LLMInterestError, ProcessError, SettingsError, Terminated

_Result = TypeVar("_Result")

#: how long processes wait for the main process, which may have to encode a whole catalog
_TIMEOUT = timedelta(days=30)
#: seconds that processes have to exit after one has failed
_GRACE_PERIOD = 5.0
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
#: field of a local batch with the weight of its loss: 1 if all processes have the same number of targets
LOSS_WEIGHT = "loss_weight"


def world_size() -> int:
    """Return the number of processes that train the model."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Return this process' index, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def is_main_process() -> bool:
    """Return whether this process evaluates and writes files."""
    return rank() == 0


def on_main_process(job: Callable[[], _Result]) -> _Result:
    """Run ``job`` in the main process, and return its result in every process."""
    if world_size() == 1:
        return job()
    result = [job() if is_main_process() else None]
    torch.distributed.broadcast_object_list(result)
    return result[0]  # type: ignore[return-value]


def all_gather_objects(value: _Result) -> list[_Result]:
    """Return the values of all processes, by rank, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """Run a block in the main process first. The others then run it and find what the main process stored."""
    if not is_main_process():
        on_main_process(lambda: None)
    yield
    if is_main_process():
        on_main_process(lambda: None)


def process_device(device: torch.device) -> torch.device:
    """Return this process' own device of the type of ``device``.

    Raises:
        SettingsError: there are fewer GPUs than processes.
    """
    if device.type != "cuda" or world_size() == 1:
        return device
    if torch.cuda.device_count() < world_size():
        raise SettingsError(
            f"nproc={world_size()}, but {torch.cuda.device_count()} visible GPU: name one for each process, as in "
            "--gpu_id=0,1, or train on the CPU by --gpu_id="
        )
    torch.cuda.set_device(rank())
    return torch.device("cuda", rank())


# --- starting processes


def run_in_processes(nproc: int, job: Callable[..., _Result], *arguments: Any) -> _Result:
    """Run ``job`` in ``nproc`` new processes, and return the result of the main process.

    The output of the other processes is discarded. If one process fails, all are terminated. With one process, the
    job runs in this one.

    Args:
        nproc: the number of processes.
        job: a function at the top level of a module.
        arguments: the arguments of ``job``; they are pickled.

    Raises:
        ProcessError: a process was killed.
        LLMInterestError: the error of the process that failed first. A KeyboardInterrupt is raised, too.
        RuntimeError: any other exception of that process, with its traceback.
    """
    if nproc == 1:
        return job(*arguments)
    # torch reports each terminated process, and that a step used all parameters
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        # an interrupt during the start is delivered afterwards, when the processes can be terminated in order
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            context = start_processes(  # type: ignore[no-untyped-call]
                _run_process, (nproc, folder, job, arguments), nproc, join=False
            )
            stack.callback(_terminate, context.processes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _join(context, folder)
        return pickle.loads((folder / "result").read_bytes())


def _join(context: Any, folder: Path) -> None:
    """Wait until all processes have ended, and raise the error of the one that failed first."""
    try:
        while not context.join(grace_period=_GRACE_PERIOD):
            pass
    except KeyboardInterrupt as interrupt:
        for note in _interrupt_notes(context.processes, folder, interrupt):
            interrupt.add_note(note)
        raise
    except ProcessException as error:
        raise _root_cause(error, folder, [process.exitcode for process in context.processes]) from None


def _run_process(rank: int, nproc: int, folder: Path, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Run ``job`` as one of several processes. The result or the first error is written to ``folder``."""
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        torch.set_num_threads(max(1, torch.get_num_threads() // nproc))
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"file://{folder / 'rendezvous'}",
            rank=rank,
            world_size=nproc,
            timeout=_TIMEOUT,
        )
        with _discard_output() if rank else contextlib.nullcontext():
            result = job(*arguments)
        if rank == 0:
            (folder / "result").write_bytes(pickle.dumps(result))
        torch.distributed.destroy_process_group()
    except BaseException as error:
        # written before this process exits, which breaks the connections of the others and makes them fail, too
        with contextlib.suppress(FileExistsError), (folder / "error").open("xb") as file:
            pickle.dump(_picklable_error(error, f"process {rank + 1} of {nproc}"), file)
        raise SystemExit(1) from error


def _exit_with_parent() -> None:
    """Terminate this process when its parent has ended, for example because it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _picklable_error(error: BaseException, process: str) -> BaseException:
    """Return the exception that the parent raises for an error in ``process``."""
    if isinstance(error, LLMInterestError | KeyboardInterrupt):
        return error
    return RuntimeError(f"{process}:\n{''.join(traceback.format_exception(error))}")


def _root_cause(failure: Exception, folder: Path, exit_codes: list[int | None]) -> BaseException:
    """Return an error that names the killed process, or else the error of the process that failed first."""
    for number, code in enumerate(exit_codes, start=1):
        if code is not None and code < 0 and -code != signal.SIGTERM:
            return ProcessError(
                f"process {number} of {len(exit_codes)} was ended by {signal.Signals(-code).name}, as when memory runs "
                "out; the best checkpoint so far is kept"
            )
    return _read_error(folder) or ProcessError(str(failure))


def _interrupt_notes(processes: list[Any], folder: Path, interrupt: KeyboardInterrupt) -> list[str]:
    """Interrupt the processes, and return the notes of the first one: where training stopped."""
    if isinstance(interrupt, Terminated):  # whereas Ctrl-C reaches every process of the terminal
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
    _terminate(processes)
    return list(getattr(_read_error(folder), "__notes__", []))


def _read_error(folder: Path) -> BaseException | None:
    path = folder / "error"
    return pickle.loads(path.read_bytes()) if path.exists() else None


def _terminate(processes: list[Any]) -> None:
    for process in processes:
        process.join(_GRACE_PERIOD)
    for process in processes:
        process.kill()
        process.join()


@contextlib.contextmanager
def _discard_output() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as devnull,
        contextlib.redirect_stdout(devnull),
        contextlib.redirect_stderr(devnull),
    ):
        yield


# --- training on local batches


def distribute_training(trainer: Any, train_data: Any, target_counts: Callable[[Any], Tensor]) -> None:
    """Make a RecBole trainer train on this process' part of each batch, and evaluate in the main process.

    The model's loss must be a mean over targets. Contrastive losses between the histories of a batch use only the
    local batch.

    Args:
        trainer: a trainer whose model is the same in all processes.
        train_data: a data loader with the same batches in all processes.
        target_counts: returns the number of targets in each row of a batch, ``[B]``.
    """
    torch.manual_seed(trainer.config["seed"] + rank())  # for dropout and everything else that a step draws
    train_data.collate_fn = functools.partial(_local_batch, train_data.collate_fn, target_counts, rank(), world_size())
    loss = DistributedDataParallel(_WeightedLoss(trainer.model), find_unused_parameters=True)
    trainer.model.calculate_loss = lambda batch: loss(batch)
    train_epoch, valid_epoch = trainer._train_epoch, trainer._valid_epoch
    trainer._train_epoch = lambda *args, **kwargs: _average(train_epoch(*args, **kwargs))
    trainer._valid_epoch = lambda *args, **kwargs: on_main_process(lambda: valid_epoch(*args, **kwargs))


class _WeightedLoss(nn.Module):
    """The loss of a local batch, weighted so that the mean over all processes is the loss of the whole batch.

    It holds the model's parameters but not the model, whose buffers hold the features of all items:
    DistributedDataParallel would broadcast them in every step.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.weights = nn.ParameterList(model.parameters())
        self.calculate_loss = model.calculate_loss

    def forward(self, batch: Any) -> Any:
        weight = batch[LOSS_WEIGHT][0]
        loss = self.calculate_loss(batch)
        return tuple(weight * part for part in loss) if isinstance(loss, tuple) else weight * loss


def _local_batch(
    collate: Callable[[Any], Any], target_counts: Callable[[Any], Tensor], rank: int, nproc: int, index: list[int]
) -> Any:
    """Return a process' rows of a batch. With fewer rows than processes, some processes get one row of weight 0."""
    batch = collate(index)
    counts = target_counts(batch)
    weight = nproc * counts[rank::nproc].sum() / counts.sum()
    rows = slice(rank, None, nproc) if rank < len(counts) else slice(1)
    local = {name: values[rows] for name, values in batch.interaction.items()}
    return type(batch)({**local, LOSS_WEIGHT: weight.expand(len(counts[rows]))})


def _average(losses: Any) -> Any:
    """Return the mean of each loss over all processes."""
    mean = torch.tensor(losses, dtype=torch.float64) / world_size()
    torch.distributed.all_reduce(mean)
    return tuple(mean.tolist()) if isinstance(losses, tuple) else mean.item()
