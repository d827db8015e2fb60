"""Runs one job on many items: in this process, on processes of this machine, or on a Ray cluster.

    for result in Workers(4).map(job, items): ...             # results in the order of the items
    for result in Workers(64, "ray").map(job, items): ...     # RAY_ADDRESS names a cluster, else one is started here

Results come in the order of the items, so that what is written is the same with any engine and number. At most two
items for each worker are in flight, which bounds memory. The item of a worker that dies is given to another one. Job,
items and results are sent between processes: functions of modules, and values of plain data.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar

from artifact_store.offline import disable_telemetry

T = TypeVar("T")
R = TypeVar("R")
ENGINES = ("local", "ray")
_INSTALL = "pip install 'riskcards[scale]'"
_IN_FLIGHT = 2
"""Items for each worker that are worked on or wait."""
_MOST_DEATHS = 4
"""Deaths of workers without any result in between, after which an item is given up."""
_CONNECT_SECONDS = 10.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Of libraries in workers: the workers themselves use all processors."""


class WorkersError(Exception):
    """Work cannot go on: an engine that is unknown or not installed, or workers that die again and again. The message
    has the remedy."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers, and where. Raises WorkersError for an unknown engine, and for Ray where it is not installed.

    >>> list(Workers().map(abs, [-3, 2, -1]))
    [3, 2, 1]
    """

    count: int = 1
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise WorkersError(
                f"the engine {self.engine!r} is unknown: use local, processes of this machine, or ray ({_INSTALL})"
            )
        if self.engine == "ray" and not _installed("ray"):
            raise WorkersError(f"ray is not installed: {_INSTALL}")

    def map(self, job: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yields the result of each item, in order; stops all workers when it is closed or fails.

        Raises what the job raises, and WorkersError if workers die again and again.
        """
        if self.engine == "ray":
            return _on_ray(job, items, self.count)
        return map(job, items) if self.count == 1 else _on_processes(job, items, self.count)


class PerProcess(Generic[T]):
    """A value that each process makes once, such as an open model: `PerProcess(partial(open_model, path))()`.

    Sent to a worker, it is made there anew, by the first job that calls it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    def __call__(self) -> T:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return PerProcess, (self._make,)


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # a module that was blocked
        return False


_jobs: dict[str, Callable[[Any], Any]] = {}
"""The job of a worker process: it is sent once, not with each item."""


def _run(item: Any) -> Any:
    try:
        return _jobs["job"](item)
    except Exception as error:  # noqa: BLE001 - raised again in the process that waits for it
        raise _sendable(error) from None


class _SentError(Exception):
    """An error of a job whose own class could not be made again from its arguments in the process that waits."""

    def __init__(self, kind: type[Exception], arguments: tuple[Any, ...], state: dict[str, Any]) -> None:
        super().__init__(kind, arguments, state)

    @property
    def original(self) -> Exception:
        kind, arguments, state = self.args
        error: Exception = kind.__new__(kind)
        error.args = arguments
        error.__dict__.update(state)
        return error


def _sendable(error: Exception) -> Exception:
    """Returns an error that can be sent to another process: one that cannot would look like the death of a worker."""
    for candidate in (error, _SentError(type(error), error.args, error.__dict__)):
        with suppress(Exception):  # whatever a constructor raises
            ForkingPickler.loads(ForkingPickler.dumps(candidate))  # as the pool does
            return candidate
    return RuntimeError(f"{type(error).__name__}: {error}")


def _given_up(cause: str) -> WorkersError:
    return WorkersError(
        f"workers died {_MOST_DEATHS} times without finishing anything ({cause}): use fewer --workers or more memory, "
        "and run the same command again"
    )


@dataclass(slots=True)
class _Task:
    item: Any
    future: Any = None

    @property
    def finished(self) -> bool:
        return self.future is not None and self.future.done() and self.future.exception() is None


def _on_processes(job: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    from concurrent.futures.process import BrokenProcessPool

    waiting, window = iter(items), deque[_Task]()
    taken = results_before = deaths = 0
    pool = _Processes(job, count)
    try:
        while True:
            try:
                window.extend(map(_Task, islice(waiting, _IN_FLIGHT * count - len(window))))
                for task in window:
                    task.future = task.future or pool.submit(task.item)
                if not window:
                    return
                result = window[0].future.result()
            except _SentError as error:
                raise error.original from None
            except BrokenProcessPool:
                results = taken + sum(task.finished for task in window)
                deaths = deaths + 1 if results == results_before else 1
                if deaths == _MOST_DEATHS:
                    raise _given_up("killed, or out of memory") from None
                results_before = results
                pool.stop()
                pool = _Processes(job, count)
                for task in window:
                    task.future = task.future if task.finished else None
                continue
            window.popleft()
            taken += 1
            yield result
    finally:
        pool.stop()


class _Processes:
    """A pool of processes that end with this one, however it ends, and at once when stopped."""

    def __init__(self, job: Callable[[Any], Any], count: int) -> None:
        from concurrent.futures import ProcessPoolExecutor

        # Forked processes would inherit the locks of other threads, such as those of numerical libraries.
        context = get_context("spawn")
        watched, self._held = context.Pipe(duplex=False)
        self._watched = watched
        self._executor = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(watched, job))

    def submit(self, item: Any) -> Any:
        # Libraries read these variables when they are loaded, so the process must be born with them.
        with _environment(_ONE_THREAD):
            return self._executor.submit(_run, item)

    def stop(self) -> None:
        self._held.close()
        self._executor.shutdown(cancel_futures=True)
        self._watched.close()


def _start(watched: Connection, job: Callable[[Any], Any]) -> None:
    """Prepares a worker: it leaves Ctrl-C to its parent, and ends when its parent ends or closes the other side."""
    _jobs["job"] = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()


def _end_with_parent(watched: Connection) -> None:
    try:
        watched.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables that are not set."""
    added = values.keys() - os.environ.keys()
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _on_ray(job: Callable[[T], R], items: Iterable[T], count: int) -> Iterator[R]:
    with _ray(count) as ray:
        run, shared = ray.remote(num_cpus=1, max_retries=_MOST_DEATHS)(_run_on_ray), ray.put(job)
        window: deque[Any] = deque()
        try:
            for item in items:
                window.append(run.remote([shared], item))
                if len(window) == _IN_FLIGHT * count:
                    yield _result(ray, window)
            while window:
                yield _result(ray, window)
        finally:
            for unfinished in window:
                ray.cancel(unfinished, force=True)


def _run_on_ray(shared: list[Any], item: Any) -> Any:
    name = shared[0].hex()
    if name not in _jobs:
        import ray

        disable_telemetry()
        _jobs.clear()
        _jobs[name] = _jobs["job"] = ray.get(shared[0])
    return _run(item)


def _result(ray: Any, window: deque[Any]) -> Any:
    try:
        result = ray.get(window[0])
    except ray.exceptions.RayTaskError as error:
        raise error.cause.original if isinstance(error.cause, _SentError) else error.cause from None
    except ray.exceptions.RayError as error:
        raise _given_up(type(error).__name__) from None
    window.popleft()
    return result


def _check_answers(address: str) -> None:
    """Raises WorkersError where nothing listens at `HOST:PORT`: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> WorkersError:
    return WorkersError(
        f"no Ray cluster answers at RAY_ADDRESS {address} ({error}): start it there, or unset RAY_ADDRESS to use this "
        "machine"
    )


@contextmanager
def _ray(count: int) -> Iterator[Any]:
    """The cluster of this process, that of RAY_ADDRESS, or one started on this machine."""
    disable_telemetry()
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get("RAY_ADDRESS")
    _check_answers(address or "")
    own: dict[str, Any] = {"num_cpus": count, "include_dashboard": False, "object_store_memory": 200_000_000}
    try:
        # Without an address Ray would join whatever cluster was started on this machine before.
        ray.init(address or "local", log_to_driver=False, configure_logging=False, **({} if address else own))
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from None
    try:
        yield ray
    finally:
        ray.shutdown()
