"""The document of `riskcards monitor --json`: alert burden, feedback, abstentions, drift, calibration.

Read-only: findings that need a person's decision are listed under `alarms`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cds_service.cards.card import OVERRIDE_CODES
from cds_service.config.alert_policy import Shown
from cds_service.monitoring.model_fit import MOST_CARDS, calibration, drift, latest
from cds_service.monitoring.subgroups import subgroups
from cds_service.store.history import Answered, Count, FeedbackEntry
from cds_service.store.store import Store
from risk_model import RiskModel

OTHER = "other"
NO_REASON = "none given"
MANY_OVERRIDES = 90.0
FEW = 100


def watch(store: Store, models: Mapping[str, RiskModel], *, days: int, now: datetime) -> dict[str, Any]:
    """Returns the report of the last `days`. Raises StoreError."""
    since = now - timedelta(days=days)
    counts, said, answered = store.history.counts(since), store.history.feedback(since), store.history.estimates(since)
    document: dict[str, Any] = {
        "from": since.isoformat(),
        "to": now.isoformat(),
        "days": days,
        "burden": burden(counts),
        "by_day": by_day(counts),
        "feedback": feedback(counts, said),
        "abstentions": abstentions(answered),
        "drift": {task: drift(store, model, since, answered) for task, model in models.items()},
        "calibration": {task: calibration(latest(answered, model), model) for task, model in models.items()},
        "subgroups": {
            task: subgroups(store.history.newest(since, MOST_CARDS), model, answered) for task, model in models.items()
        },
    }
    return document | {"alarms": alarms(document)}


def burden(counts: Iterable[Count]) -> dict[str, dict[str, Any]]:
    """By service: cards made, shown, warnings, each per 100 made, and the reasons others were not shown."""
    made: Counter[str] = Counter()
    fates: dict[str, Counter[str]] = {}
    warnings: Counter[str] = Counter()
    for count in counts:
        made[count.service] += count.cards
        fates.setdefault(count.service, Counter())[count.shown] += count.cards
        if count.shown == Shown.SHOWN and count.indicator != "info":
            warnings[count.service] += count.cards
    return {
        service: {
            "made": cards,
            "shown": fates[service][Shown.SHOWN],
            "warnings": warnings[service],
            "shown_per_100": _per_100(fates[service][Shown.SHOWN], cards),
            "warnings_per_100": _per_100(warnings[service], cards),
            "not_shown": {fate.value: fates[service][fate] for fate in Shown if fate is not Shown.SHOWN},
        }
        for service, cards in sorted(made.items())
    }


def by_day(counts: Iterable[Count]) -> list[dict[str, Any]]:
    days: dict[str, Counter[str]] = {}
    for count in counts:
        day = days.setdefault(count.day, Counter())
        if count.shown == Shown.SHOWN:
            day["shown"] += count.cards
            day["warnings"] += count.cards if count.indicator != "info" else 0
        else:
            day["not_shown"] += count.cards
    names = ("shown", "warnings", "not_shown")
    return [{"day": day, **{name: days[day][name] for name in names}} for day in sorted(days)]


def feedback(counts: Iterable[Count], said: Sequence[FeedbackEntry]) -> dict[str, dict[str, Any]]:
    """By service: of the cards shown, the numbers answered, accepted and overridden, with override reasons.

    A card both accepted and then set aside, as some clients report it, counts as accepted. A reason that is not of
    the list we send is "other": a client may write anything there.
    """
    shown: Counter[str] = Counter()
    for count in counts:
        shown[count.service] += count.cards if count.shown == Shown.SHOWN else 0
    answer = {}
    for service, cards in sorted(shown.items()):
        own = [item for item in said if item.service == service]
        accepted = {item.card for item in own if item.outcome == "accepted"}
        overridden = {item.card for item in own if item.outcome == "overridden"} - accepted
        last = {item.card: item.reason for item in own if item.outcome == "overridden" and item.card in overridden}
        reasons = Counter(_known(reason) for reason in last.values())
        answer[service] = {
            "shown": cards,
            "answered": len(accepted | overridden),
            "accepted": len(accepted),
            "overridden": len(overridden),
            "overridden_per_100_shown": _per_100(len(overridden), cards),
            "overridden_per_100_answered": _per_100(len(overridden), len(accepted | overridden)),
            "reasons": dict(reasons.most_common()),
        }
    return answer


def _known(reason: str) -> str:
    return reason if reason in OVERRIDE_CODES else OTHER if reason else NO_REASON


def abstentions(answered: Sequence[Answered]) -> dict[str, dict[str, Any]]:
    """By task: the numbers of estimates requested and withheld, by code."""
    asked = Counter(item.task for item in answered)
    answer = {}
    for task, estimates in sorted(asked.items()):
        codes = Counter(item.abstention for item in answered if item.task == task and item.abstention)
        withheld = sum(codes.values())
        answer[task] = {
            "asked": estimates,
            "withheld": withheld,
            "withheld_per_100": _per_100(withheld, estimates),
            "codes": dict(codes.most_common()),
        }
    return answer


def alarms(document: Mapping[str, Any]) -> list[str]:
    """The findings that need attention, as text."""
    found = []
    for service, item in document["feedback"].items():
        rate = item["overridden_per_100_answered"]
        if item["answered"] >= FEW and rate is not None and rate >= MANY_OVERRIDES:
            found.append(f"{service}: {rate:.0f} of 100 answered cards are overridden; look at thresholds and reasons")
    for task, item in document["drift"].items():
        if item["probabilities"]["verdict"] == "shifted":
            found.append(f"{task}: estimates are distributed otherwise than in training (PSI)")
        shifted = [each["name"] for each in item["inputs"] if each["verdict"] == "shifted"]
        if shifted:
            found.append(f"{task}: {len(shifted)} inputs have shifted: {', '.join(shifted[:5])}")
        gone = [each["input"] for each in item["missingness"] if each["moved"]]
        if gone:
            found.append(f"{task}: {len(gone)} inputs are known more or less often than in training")
    for task, item in document["calibration"].items():
        ratio = item.get("observed_expected")
        if ratio is not None and not ratio["interval"][0] <= 1 <= ratio["interval"][1]:
            words = "too low" if ratio["value"] > 1 else "too high"
            found.append(f"{task}: estimates are {words} (observed : expected {ratio['value']:.2f}); see recalibrate")
    for task, groups in document["subgroups"].items():
        for name, item in groups.items():
            ratio = item.get("observed_expected")
            if ratio is not None and not ratio["interval"][0] <= 1 <= ratio["interval"][1]:
                words = "too low" if ratio["value"] > 1 else "too high"
                found.append(f"{task}, {name}: estimates are {words} (observed : expected {ratio['value']:.2f})")
    return found


def _per_100(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None
