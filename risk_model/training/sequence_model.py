"""A recurrent network over the measurements of a stay, to compare with: LSTM (Hochreiter and Schmidhuber 1997).

Each step has the values, standardised and carried forward, and which of them were measured then; the last state beside
the other inputs gives the log-odds. Small, on the CPU and seeded. Within each fold training stops when a fifth of its
patients, held out from it, no longer gain. Needs torch, of the extra [llm].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from risk_model.first_stage.training_rows import patient_folds

NAME = "lstm"
Floats = NDArray[np.float64]
Series = NDArray[np.float32]
_SEED, _HIDDEN, _BATCH, _RATE, _DECAY = 7, 32, 64, 5e-3, 1e-3
_EPOCHS, _PATIENCE, _STOPPING_FOLDS = 60, 6, 5


def why_not(series: Series | None) -> str | None:
    """Returns why there is no sequence model of these rows; None if there can be."""
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'riskcards[llm]'"
    if series is None or not np.isfinite(series).any():
        return "nothing was measured in these stays"
    return None


def held_out(
    series: Series,
    x: Series,
    y: Floats,
    patients: Sequence[str],
    fold: NDArray[np.int64],
    say: Callable[[str], None] = lambda _: None,
) -> Floats:
    """Returns the log-odds of each row, shape (n,), from a network that saw no row of its fold.

    `series` has the shape (n, steps, concepts), `x` (n, inputs); NaN is unknown.
    """
    found = np.zeros(len(y))
    numbers = np.unique(fold)
    for place, number in enumerate(numbers):
        inside, outside = fold != number, fold == number
        say(f"{NAME}: fold {place + 1} of {len(numbers)}")
        people = [patient for patient, kept in zip(patients, inside, strict=True) if kept]
        stopping = patient_folds(people, _STOPPING_FOLDS, y[inside]) == 0
        learn = np.flatnonzero(inside)[~stopping]
        steps, other = _scaled_steps(series, learn), _scaled(x, learn)
        found[outside] = _fitted(steps, other, y, learn, np.flatnonzero(inside)[stopping], np.flatnonzero(outside))
    return found


def _scaled_steps(series: Series, learn: NDArray[np.int64]) -> Series:
    """Returns values carried forward, standardised by the rows to learn from, and where they were measured."""
    known = np.isfinite(series)
    flat = series[learn].reshape(-1, series.shape[2])
    mean, spread = _moments(flat)
    value = np.where(known, (series - mean) / spread, np.nan).astype(np.float32)
    for step in range(1, value.shape[1]):
        value[:, step] = np.where(np.isnan(value[:, step]), value[:, step - 1], value[:, step])
    return np.concatenate([np.nan_to_num(np.clip(value, -5, 5)), known.astype(np.float32)], axis=2)


def _scaled(x: Series, learn: NDArray[np.int64]) -> Series:
    mean, spread = _moments(x[learn])
    known = np.isfinite(x)
    value = np.nan_to_num(np.clip((x - mean) / spread, -5, 5))
    return np.hstack([value, known.astype(np.float32)]).astype(np.float32)


def _moments(rows: Series) -> tuple[Series, Series]:
    """Returns mean and standard deviation of each column; 0 and 1 where it is unknown or the same in every row."""
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, rows, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, rows - mean, 0) ** 2).sum(axis=0) / count)
    return mean.astype(np.float32), np.where(spread > 0, spread, 1).astype(np.float32)


def _fitted(
    steps: Series,
    other: Series,
    y: Floats,
    learn: NDArray[np.int64],
    stop: NDArray[np.int64],
    asked: NDArray[np.int64],
) -> Floats:
    """Returns the log-odds of the rows `asked` by the network that was best on the rows `stop`."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = _network(torch, steps.shape[2], other.shape[1], float(y[learn].mean()))
        optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
        tensors = [torch.from_numpy(array) for array in (steps, other, y.astype(np.float32))]
        order = np.random.default_rng(_SEED)
        best, kept, waited = np.inf, network.state_dict(), 0
        for _ in range(_EPOCHS):
            for rows in np.array_split(order.permutation(learn), max(len(learn) // _BATCH, 1)):
                optimizer.zero_grad()
                _loss(torch, network, tensors, rows).backward()
                optimizer.step()
            with torch.no_grad():
                loss = float(_loss(torch, network, tensors, stop))
            waited = 0 if loss < best else waited + 1
            if loss < best:
                best, kept = loss, {name: value.clone() for name, value in network.state_dict().items()}
            if waited == _PATIENCE:
                break
        network.load_state_dict(kept)
        with torch.no_grad():
            return np.asarray(_scores(network, tensors, asked), dtype=np.float64)


def _network(torch: Any, width: int, others: int, rate: float) -> Any:
    network = torch.nn.ModuleDict(
        {
            "sequence": torch.nn.LSTM(width, _HIDDEN, batch_first=True),
            "answer": torch.nn.Linear(_HIDDEN + others, 1),
        }
    )
    torch.nn.init.zeros_(network["answer"].weight)
    torch.nn.init.constant_(network["answer"].bias, float(np.log(rate / (1 - rate))))
    return network


def _scores(network: Any, tensors: Sequence[Any], rows: NDArray[np.int64]) -> Any:
    import torch

    state = network["sequence"](tensors[0][rows])[1][0][-1]
    return network["answer"](torch.cat([state, tensors[1][rows]], dim=1))[:, 0]


def _loss(torch: Any, network: Any, tensors: Sequence[Any], rows: NDArray[np.int64]) -> Any:
    scores = _scores(network, tensors, rows)
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, tensors[2][rows])
