"""Labels do not depend on the order of resources, or on events outside their windows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from risk_model.labels.labelling import Excluded, Labelled, label
from risk_model.labels.task_definitions import shipped_definitions
from risk_model.labels.timeline import PatientTimeline
from tests.risk_model.labels.test_labelling import condition, lab, stay, visit

Resource = dict[str, Any]
PERSON: Resource = {"resourceType": "Patient", "id": "p", "birthDate": "1950-01-01"}
STAYS = st.lists(
    st.tuples(
        st.floats(0, 300), st.floats(0.05, 20), st.sampled_from(["IMP", "EMER", "OBSENC", "AMB"]),
        st.sampled_from(["home", "exp", "aadvice", "02", None]), st.sampled_from(["I50.9", "Z51.11", "S72.001A"]),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def resources_of(stays: list[tuple[Any, ...]]) -> list[Resource]:
    made = [stay(f"s{n}", a, a + d, kind, left, why) for n, (a, d, kind, left, why) in enumerate(stays)]
    made += [lab(a + d / 2, "2951-2", 120 + n, "mmol/L") for n, (a, d, *_) in enumerate(stays)]
    return [*made, *(condition(a + 0.1, "I10") for a, *_ in stays[:1])]


@settings(max_examples=60, deadline=None)
@given(STAYS, st.integers(0, 10))
def test_order_and_duplicates_change_no_label(stays: list[tuple[Any, ...]], seed: int) -> None:
    resources = resources_of(stays)
    shuffled = [*resources, *resources[:2]]
    random.Random(seed).shuffle(shuffled)
    for task in shipped_definitions().values():
        first, second = (
            list(label(task, PatientTimeline.of([PERSON, *some], "p"), UTC)) for some in (resources, shuffled)
        )
        assert sorted(map(repr, first)) == sorted(map(repr, second))


@settings(max_examples=60, deadline=None)
@given(STAYS, st.floats(0, 40))
def test_events_after_the_windows_change_no_label(stays: list[tuple[Any, ...]], later: float) -> None:
    """A visit, an admission and a value long after the last window; only `meds-tab` uses whether there is one."""
    resources = resources_of(stays)
    far = 300 + 20 + 366 + later
    future = [visit(far), stay("far", far + 1, far + 3), lab(far + 2, "2951-2", 101, "mmol/L")]
    end = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=far)
    for task in shipped_definitions().values():
        if task.definition == "meds-tab":
            continue
        before = list(label(task, PatientTimeline.of([PERSON, *resources], "p"), UTC))
        after = list(label(task, PatientTimeline.of([PERSON, *resources, *future], "p"), UTC))
        kept = [a for a in after if not (a.encounter_id or "").startswith(("far", "v"))]
        kept = [a for a in kept if isinstance(a, Excluded) or a.prediction_time < end]
        assert kept == before, task


@settings(max_examples=60, deadline=None)
@given(STAYS)
def test_prediction_times_precede_the_window_and_the_end_of_the_stay(stays: list[tuple[Any, ...]]) -> None:
    timeline = PatientTimeline.of([PERSON, *resources_of(stays)], "p")
    ends = {s.source.partition("/")[2]: s.end for s in timeline.stays}
    for task in shipped_definitions().values():
        for row in label(task, timeline, UTC):
            if not isinstance(row, Labelled):
                continue
            assert row.label in {0, 1}
            assert row.window_end is None or row.prediction_time < row.window_end
            end = ends.get(row.encounter_id or "")
            if task.trigger.event == "admission":
                assert end is not None
                assert row.prediction_time < end
