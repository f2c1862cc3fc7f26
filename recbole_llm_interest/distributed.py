"""Several processes that train one model together, over torch's distributed engine.

All of them read the same data, build the same model and draw the same batches. Each trains on its own rows of every
batch, and DistributedDataParallel averages their gradients, weighted by targets, so that each step is that of one
process with the whole batch. The rest, evaluation included, is done by the first process alone, by the same code as
without any others: it is a small part of the work, and what is measured and written cannot depend on their number.
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

#: what the others wait for the first at most, which may have to encode a whole catalogue
_PATIENCE = timedelta(days=30)
#: seconds in which processes may end by themselves after one has failed
_GRACE = 5.0
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM}
#: the column of a batch that says how much a process' share counts; 1 where all have the same number of targets
LOSS_WEIGHT = "loss_weight"


def world_size() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this is the process that evaluates and writes."""
    return rank() == 0


def on_main_process(job: Callable[[], _Result]) -> _Result:
    """Do ``job`` in the first process; all return what it returns there."""
    if world_size() == 1:
        return job()
    result = [job() if is_main_process() else None]
    torch.distributed.broadcast_object_list(result)
    return result[0]  # type: ignore[return-value]


def all_gather_objects(value: _Result) -> list[_Result]:
    """What each process gave, in their order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """The others do what is within when the first process has done it, and find what it stored."""
    if not is_main_process():
        on_main_process(lambda: None)
    yield
    if is_main_process():
        on_main_process(lambda: None)


def process_device(device: torch.device) -> torch.device:
    """This process' own device of the kind of ``device``.

    Raises:
        SettingsError: there are fewer GPUs than processes.
    """
    if device.type != "cuda" or world_size() == 1:
        return device
    if torch.cuda.device_count() < world_size():
        raise SettingsError(
            f"nproc={world_size()}, and {torch.cuda.device_count()} GPU that may be used: name one for each process, "
            "as in --gpu_id=0,1, or none by --gpu_id="
        )
    torch.cuda.set_device(rank())
    return torch.device("cuda", rank())


def run_in_processes(count: int, job: Callable[..., _Result], *arguments: Any) -> _Result:
    """Do ``job`` in ``count`` new processes of this machine, and return what it returns in the first.

    All but the first are mute. As soon as one fails, all are ended. With a count of 1, this process does the job.

    Args:
        count: how many.
        job: a function of a module.
        arguments: its arguments, which can be pickled.

    Raises:
        ProcessError: a process was killed.
        LLMInterestError: what the process that failed first raised; so with KeyboardInterrupt.
        RuntimeError: the same for any other exception, with its traceback.
    """
    if count == 1:
        return job(*arguments)
    # The one would say that it ends the others; the other that in this step, all parameters were in use.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        # An interrupt that comes while they start waits until they can end in order.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            started = (count, Path(folder), job, arguments)
            context = start_processes(_process, started, count, join=False)  # type: ignore[no-untyped-call]
            stack.callback(_end, context.processes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            while not context.join(grace_period=_GRACE):
                pass
        except KeyboardInterrupt as interrupt:
            for note in _notes_of_processes(context.processes, Path(folder), interrupt):
                interrupt.add_note(note)
            raise
        except ProcessException as ended:
            raise _cause(ended, Path(folder), [process.exitcode for process in context.processes]) from None
        return pickle.loads((Path(folder) / "result").read_bytes())


def _process(rank: int, count: int, folder: Path, job: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
        threading.Thread(target=_end_with_the_parent, daemon=True).start()
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"file://{folder / 'rendezvous'}",
            rank=rank,
            world_size=count,
            timeout=_PATIENCE,
        )
        with _mute() if rank else contextlib.nullcontext():
            result = job(*arguments)
        if rank == 0:
            (folder / "result").write_bytes(pickle.dumps(result))
        torch.distributed.destroy_process_group()
    except BaseException as error:
        # Before the others' connections break: theirs is not what was wrong.
        with contextlib.suppress(FileExistsError), (folder / "error").open("xb") as file:
            pickle.dump(_to_raise(error, f"process {rank + 1} of {count}"), file)
        raise SystemExit(1) from error


def _end_with_the_parent() -> None:
    """End this process when the one that started it is gone, killed maybe: nobody would wait for the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _to_raise(error: BaseException, where: str) -> BaseException:
    """What the process that started the others raises for an error in one of them."""
    if isinstance(error, LLMInterestError | KeyboardInterrupt):
        return error
    return RuntimeError(f"{where}:\n{''.join(traceback.format_exception(error))}")


def _cause(ended: Exception, folder: Path, exit_codes: list[int | None]) -> BaseException:
    """Who was killed, and the others but lost their connection; or what the process that failed first has left."""
    for number, code in enumerate(exit_codes, start=1):
        if code is not None and code < 0 and -code != signal.SIGTERM:
            return ProcessError(
                f"process {number} of {len(exit_codes)} was ended by {signal.Signals(-code).name}, as when memory runs "
                "out; the best checkpoint so far is kept"
            )
    if (folder / "error").exists():
        error: BaseException = pickle.loads((folder / "error").read_bytes())
        return error
    return ProcessError(str(ended))


def _notes_of_processes(processes: list[Any], folder: Path, interrupt: KeyboardInterrupt) -> list[str]:
    """What the processes say that were interrupted as this one was: where they were."""
    if isinstance(interrupt, Terminated):  # Ctrl-C reaches every process of the terminal
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
    _end(processes)
    if not (folder / "error").exists():
        return []
    return list(getattr(pickle.loads((folder / "error").read_bytes()), "__notes__", []))


def _end(processes: list[Any]) -> None:
    for process in processes:
        process.join(_GRACE)
    for process in processes:
        process.kill()
        process.join()


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def distribute_training(trainer: Any, train_data: Any, targets: Callable[[Any], Tensor]) -> None:
    """Let a trainer of RecBole's train on this process' share of each batch, and evaluate in the first process.

    The model's loss has to be a mean over targets. Contrasts of the histories of a batch see those of the share.

    Args:
        trainer: with a model that is the same in all processes.
        train_data: gives the same batches in all processes.
        targets: how many targets each row of a batch holds, ``[B]``.
    """
    torch.manual_seed(trainer.config["seed"] + rank())  # dropout, and whatever else is drawn in a step
    train_data.collate_fn = functools.partial(_share, train_data.collate_fn, targets, rank(), world_size())
    loss = DistributedDataParallel(_ShareLoss(trainer.model), find_unused_parameters=True)
    trainer.model.calculate_loss = lambda batch: loss(batch)
    train_epoch, valid_epoch = trainer._train_epoch, trainer._valid_epoch
    trainer._train_epoch = lambda *args, **kwargs: _mean(train_epoch(*args, **kwargs))
    trainer._valid_epoch = lambda *args, **kwargs: on_main_process(lambda: valid_epoch(*args, **kwargs))


class _ShareLoss(nn.Module):
    """The loss of a share, weighted so that the mean over the processes is the loss of the batch."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        # and not the model itself, whose buffers hold all features: they would be sent around in each step
        self.weights = nn.ParameterList(model.parameters())
        self.calculate_loss = model.calculate_loss

    def forward(self, share: Any) -> Any:
        weight = share[LOSS_WEIGHT][0]
        loss = self.calculate_loss(share)
        return tuple(weight * part for part in loss) if isinstance(loss, tuple) else weight * loss


def _share(
    collate: Callable[[Any], Any], targets: Callable[[Any], Tensor], rank: int, count: int, index: list[int]
) -> Any:
    """A process' rows of a batch. Where there are fewer rows than processes, some get one that counts nothing."""
    batch = collate(index)
    held = targets(batch)
    weight = count * held[rank::count].sum() / held.sum()
    rows = slice(rank, None, count) if rank < len(held) else slice(1)
    share = {name: values[rows] for name, values in batch.interaction.items()}
    return type(batch)({**share, LOSS_WEIGHT: weight.expand(len(held[rows]))})


def _mean(losses: Any) -> Any:
    """Of the losses of all processes, one by one."""
    mean = torch.tensor(losses, dtype=torch.float64) / world_size()
    torch.distributed.all_reduce(mean)
    return tuple(mean.tolist()) if isinstance(losses, tuple) else mean.item()
