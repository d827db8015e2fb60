"""What an outlier score means for an estimate: an abstention, a caution, or nothing."""

from __future__ import annotations

from risk_model.applicability.out_of_distribution import REFUSED, WARNED, OutlierScore
from risk_model.core.values import Abstention
from risk_model.features import inputs


def abstention_of(outlier: OutlierScore | None) -> Abstention | None:
    """Returns the abstention for an outlier."""
    if outlier is None or outlier.verdict != "outlier":
        return None
    least = f"{1 / REFUSED:,.0f}"
    words = f"This patient's values are further from those the model learned from than 1 in {least} of its own patients"
    return Abstention("unlike-training", f"{words}{_mostly(outlier)}.")


def cautions_of(outlier: OutlierScore | None) -> tuple[str, ...]:
    """Returns a caution for values that are rare among the training patients."""
    if outlier is None or outlier.verdict == "typical":
        return ()
    words = f"Values like these are rare among the patients the model learned from (1 in {1 / WARNED:.0f})"
    return (f"{words}{_mostly(outlier)}. Read the estimate with more care.",)


def _mostly(outlier: OutlierScore) -> str:
    labels = (inputs.label_of(concept) for concept in outlier.concepts)
    # Labels begin with a capital, which only abbreviations keep in a sentence.
    named = ", ".join(label if label[1:2].isupper() else label[:1].lower() + label[1:] for label in labels)
    return f"; most of all: {named}" if named else ""
