"""Rules beside medspacy: labels are read unchanged, both are scored alike, and a missing package is reported."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.note_rules import ABSENT, Medspacy, on_sentences, on_windows, sentences
from knowledge_index import KnowledgeIndex
from risk_model.llm_tuning.example_sources import generated_examples
from risk_model.notes.rule_reader import RuleNoteReader

LINES = """number\tcondition\tsentence\tnegation\ttemporality\texperiencer
1\tedema\tExtremities reveal no EDEMA.\tNegated\tRecent\tPatient
2\tCAD\tFather had CAD; history of CAD.\tAffirmed\tRecent\tOther
3\tnot there\tNothing of the kind.\tAffirmed\tRecent\tPatient
4\tMI\t"History of MI."\tAffirmed\tHistorical\tPatient
"""
_WAY = """#!{python}
import json, sys
asked = json.load(open(sys.argv[2])) if sys.argv[1] != "-c" else []
said = [[[True, False, False, False, False] for _ in item["spans"]] for item in asked]
print(json.dumps({{"seconds": 1.0, "said": said}}))
"""


def test_labelled_sentences_are_read_and_scored(tmp_path: Path) -> None:
    file = tmp_path / "labelled.txt"
    file.write_text(LINES, "utf-8")
    read = list(sentences(file))
    assert [one.text[one.start : one.end] for one in read] == ["edema", "CAD", "MI"]
    assert [[name for name, has in one.labels.items() if has] for one in read] == [["denied"], ["relative"], ["past"]]
    found = on_sentences(read, None)
    assert found["medspacy"] == ABSENT
    assert [found["rules"][name]["f1"] for name in ("denied", "relative", "past")] == [1.0, 1.0, 1.0]


def test_a_peer_that_denies_everything_is_scored_on_the_same_mentions(tmp_path: Path) -> None:
    peer = tmp_path / "python"
    peer.write_text(_WAY.format(python=sys.executable), "utf-8")
    peer.chmod(0o755)
    index = KnowledgeIndex.open_starter()
    found = on_windows(
        generated_examples(index, "train", 40), RuleNoteReader(index, embed=False, values=False), Medspacy(peer)
    )
    assert found["medspacy"]["absent"]["recall"] > 0.9
    assert found["medspacy"]["present"]["read"] == 0
    assert found["ahead"]["all"]["value"] > 0.3
    assert not Medspacy(tmp_path / "absent").there
