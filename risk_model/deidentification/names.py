"""Names of people and places in text: by the words beside them, by lists of names, and by being no known word.

A word with a capital that neither English nor medicine has in lower case is taken for a name: what is removed in error
is a word, what is not removed is a person. Words that are names and words both (Brown, Grace, Parkinson) count as names
only beside another name or after a title.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from risk_model.deidentification.categories import Category
from risk_model.deidentification.patterns import Identifier
from risk_model.deidentification.word_lists import Kind, WordLists, lists

_LETTERS = r"A-Za-z\u00c0-\u024f"
_TOKEN = re.compile(rf"[{_LETTERS}]+(?:['\u2019-][{_LETTERS}]+)*")
_GAP = re.compile(
    r"[ \t]+|\.[ \t]*|,[ \t]*|[ \t]*&[ \t]*|[ \t]+(?:and|de|van|von|der|la|del|da|bin|al|ibn|ben)[ \t]+|[ \t]*-[ \t]*"
)
_TITLE = re.compile(
    r"\b(?:(?:drs?|mr|mrs|ms|mss?rs|prof|sr|rev|capt|sgt|mme)\b\.?|(?:doctors?|miss|mister|professor|sister|reverend|father|pastor|rabbi|imam"
    r"|nurse|sir|madam|captain|sergeant|officer|judge|attorney|herr|frau|se\u00f1ora?|monsieur|madame)\b)[ \t]+(?=[^\W\d_])", re.I
)  # fmt: skip
_LABEL = re.compile(
    r"\b(?:patient(?:'s)?(?: name)?|pt(?: name)?|name|full name|last name|first name|surname|maiden name|alias|aka|a\.k\.a\.?|attending"
    r"(?: physician| md)?|resident|intern|fellow|surgeon|assistant|anesthesiologist|physician|provider|consultant|pcp|primary care"
    r"(?: physician| provider)?|referring(?: physician| provider| md)?|author|dictated by|signed(?: by)?|electronically signed(?: by)?"
    r"|e-?signed(?: by)?|cosigned by|transcribed by|reviewed by|reported by|verified by|prepared by|entered by|performed by|read by"
    r"|interpreted by|ordered by|requested by|seen by|evaluated by|admitted by|discharged by|written by|scribe|nurse|rn|np|pa|cc|to|from"
    r"|attn|re|next of kin|nok|emergency contact|contact|guardian|hcp|health ?care proxy|poa|power of attorney|spouse|partner|mother"
    r"|father|wife|husband|son|daughter|sister|brother|caregiver|employer|interpreter|social worker|case manager|pharmacist"
    r"|therapist|guarantor|subscriber|policy holder|relative|informant|witness(?:ed by)?|operator|technologist|md|dietitian)"
    r"[ \t]*(?::|=)[ \t]*(?=[^\W\d_])", re.I
)  # fmt: skip
_BEFORE_NAME = re.compile(
    r"\b(?:(?:his|her|their|the|pt'?s|patient'?s)?\s*(?:wife|husband|son|daughter|mother|father|mom|dad|brother|sister|spouse|partner|fianc\u00e9e?|girlfriend"
    r"|boyfriend|friend|neighbou?r|aunt|uncle|nephew|niece|cousin|grandson|granddaughter|grandmother|grandfather|stepson|stepdaughter"
    r"|guardian|caregiver|roommate|landlord|proxy|boss|coworker|twin|pcp|cardiologist|oncologist|surgeon|neurologist|nephrologist"
    r"|hospitalist|intensivist|urologist|psychiatrist|dentist|pharmacist|interpreter|chaplain|case manager|social worker|therapist"
    r"|dietitian|resident|attending|intern|fellow|np|pa|rn|nurse)|discussed with|spoke (?:with|to)|seen by|signed(?: by)?|per|dictated by"
    r"|called|paged|contacted|notified|informed|named|name is|goes by|known as|care of|c/o|accompanied by|lives with|followed by"
    r"|referred by|referred to|evaluated by|met with|visit with|appointment with|appt with|follow up with|f/u with|by|with|thank you"
    r"|thanks|dear|sincerely|regards|hi|hello|plan d/w|d/w|dw|s/w|spouse of|signout to|signed out to|handoff to|report to|text)[ \t,(]+(?=[^\W\d_])", re.I
)  # fmt: skip
_RELATION = re.compile(
    r"\b(?:wife|husband|son|daughter|mother|father|mom|dad|brother|sister|spouse|partner|girlfriend|boyfriend|aunt|uncle"
    r"|nephew|niece|cousin|grand\w+|named|known as|goes by|dear)\b", re.I
)  # fmt: skip
_CREDENTIAL = re.compile(
    r"^[ \t]*,?[ \t]*\(?(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|N\.?P\.?|P\.?A\.?(?:-C)?|PharmD|Ph\.?D\.?|LPN|CRNA|APRN|ARNP|FNP|BSN|MSN|MBBS|FRCP|FACC|FACP|DPM|DDS|MSW|LCSW|RD|PT|OT|DPT|RRT|CNA"
    r"|Esq|Jr|Sr|III|II|MPH|MRCP)\b"
)
_FACILITY = (
    r"(?:Hospitals?|Medical Cent(?:er|re)|Clinics?|Health(?:care)?(?: System| Center| Centre| Network)?|Nursing (?:Home|Facility|Center)"
    r"|Rehab(?:ilitation)?(?: Center| Hospital| Facility)?|Hospice|Manor|Village|Estates|Gardens|Terrace|Care Cent(?:er|re)|Infirmary"
    r"|Sanatorium|University|College|School|High School|Elementary|Church|Cathedral|Temple|Mosque|Synagogue|Pharmacy|Labs?"
    r"|Laborator(?:y|ies)|Institute|Foundation|Shelter|Prison|Jail|Correctional(?: Facility)?|County|Township|Borough|Parish"
    r"|Inc|LLC|Ltd|Corp(?:oration)?|Company|Industries|Logistics|Foods|Motors|Steel|Trust|Assisted Living|Senior Living|SNF|ED|ER"
    r"|Emergency Department|Cancer Center|Heart Center|Heart Institute|General|Memorial)"
)
_FACILITY_NAME = re.compile(
    rf"\b(?P<value>(?:(?:St|Saint|Mt|Mount|Ft|Fort)\.?[ ])?(?:[A-Z\u00c0-\u00de][\w\u00c0-\u024f'\u2019]{{1,30}}(?:[ ]|-)(?:of[ ]|the[ ]|and[ ]|&[ ])?){{1,4}}{_FACILITY})\b"
)
_OF_FACILITY = re.compile(
    r"\b(?P<value>(?:University|Hospital|College|City|County|Town|Diocese|Port) of (?:the )?[A-Z][\w'-]+(?:[ ][A-Z][\w'-]+)?"
    r"(?:[ ](?:Hospital|Medical Center|Health))?)"
)
_BEFORE_PLACE = re.compile(
    r"\b(?:lives? (?:in|at|near)|living in|resid(?:es|ing|ent) (?:in|at|of)|moved (?:here )?(?:from|to)|born in|native of|originally from"
    r"|travel(?:l?ed|ing)? (?:to|from|through)|trip to|visit(?:ing|ed)?|vacation(?:ing)? in|(?:is|was|are|comes?) from|transfer(?:red)? (?:from|to)|osh|outside hospital"
    r"|arrived from|hometown(?: is)?|works? (?:at|for|in)|employed (?:at|by)|retired from|located in|county of|city of|town of|in|from"
    r"|near|at|to|neighborhood:?|city:|address:?|location:|facility:|hospital:|employer:)[ \t]+(?:the[ \t]+)?(?=[A-Z\u00c0-\u00de])", re.I
)  # fmt: skip
_APPOSITION = re.compile(
    r"\b(?:wife|husband|son|daughter|mother|father|mom|dad|brother|sister|spouse|partner|aunt|uncle|nephew|niece|cousin|friend"
    r"|grand\w+|guardian|caregiver)(?:,[ ]|[ ]\()(?P<value>[A-Z\u00c0-\u00de][a-z\u00df-\u024f'\u2019-]+(?:[ ][A-Z][\w'\u2019-]+)?)(?=[,)])"
)
_HEADER = re.compile(
    r"^(?P<value>[A-Z\u00c0-\u00de][\w\u00c0-\u024f'\u2019-]+,[ ]?[A-Z\u00c0-\u00de][\w\u00c0-\u024f'\u2019-]+(?:[ ][A-Z][\w'\u2019-]*\.?){0,2})"
    r"(?=[ \t|,;(]+(?:DOB|MRN|D\.O\.B|Age|Sex|\d|[MF]\b))",
    re.M,
)
_EMPLOYER = re.compile(
    r"\b(?:works? (?:at|for)|working (?:at|for)|worked (?:at|for)|employed (?:at|by)|job (?:at|with)|employer:?|retired from|student at|attends|enrolled at)"
    r"[ \t]+(?:the[ ])?(?P<value>[A-Z][\w&'\u2019-]+(?:[ ](?:[A-Z][\w&'\u2019-]+|of|and|&))*)"
)
# A name before one of these is that of a disease, a test or a device.
_EPONYM = re.compile(
    r"^(?:['\u2019]s?)?(?:[ -](?:[A-Z][a-z]+|and|type|B|C|barr|ganz|jakob|parkinson|white|weiss|pugh|tooth|scarlatti|hunt|eaton|willebrand))?"
    r"[ ,-]+(?:diseases?|syndromes?|signs?|palsy|paralysis|scores?|criteria|catheters?|tubes?|lymphomas?|esophagus|oesophagus|fractures?|classification"
    r"|scales?|procedure|operation|tests?|index|rules?|drain|line|stain|dementia|thyroiditis|sarcoma|tumou?r|cells?|virus|factor|maneuver"
    r"|reflex|contracture|phenomenon|ring|ulcer|gangrene|hernia|triad|law|node|nodes|bodies|rot|grade|stage|equation|formula|method|solution|wave|chorea|ataxia"
    r"|anemia|anomaly|cyst|cyanosis|nerve|canal|pouch|loop|knot|position|spots|lines|tetrad|monitor|clamp|retractor|trach(?:eostomy)?|splint|collar|pump|system|level|protocol)\b", re.I
)  # fmt: skip
_DOSE = re.compile(
    r"^[\s,(]*(?:\d[\d.,]*\s*-?\s*(?:mg|mcg|g\b|gm|ml|units?|iu|meq|tab|cap|puffs?|%|mmol)|(?:tablets?|caps?(?:ules?)?|inhalers?|injections?|drip|gtt|infusion"
    r"|po|iv|im|sq|subq|bid|tid|qid|qd|qhs|daily|prn|patch|therapy|x\s?\d|qam|qpm|q\d)\b)", re.I
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int
    kind: Kind

    @property
    def initial(self) -> bool:
        return len(self.text) == 1 and self.text.isupper()

    @property
    def capital(self) -> bool:
        return self.text[0].isupper()

    @property
    def shouted(self) -> bool:
        return len(self.text) > 1 and self.text.isupper()


def found(text: str) -> Iterator[Identifier]:
    """Yields names of people and places of a text; they may overlap."""
    known = lists()
    words = [_Word(m[0], m.start(), m.end(), known.kind(m[0])) for m in _TOKEN.finditer(text)]
    starts = {word.start: number for number, word in enumerate(words)}
    yield from _places(text, words, starts, known)
    for pattern in (_TITLE, _LABEL, _BEFORE_NAME):
        for match in pattern.finditer(text):
            if match.end() in starts:
                strong = pattern is not _BEFORE_NAME or _RELATION.search(match[0]) is not None
                yield from _after(text, words, starts[match.end()], strong=strong, title=pattern is _TITLE)
    for pattern in (_APPOSITION, _HEADER):
        for match in pattern.finditer(text):
            yield Identifier(*match.span("value"), Category.NAME)
    yield from _credentialed(text, words)
    yield from _by_lists(text, words)


def _joined(text: str, one: _Word, other: _Word) -> bool:
    gap = text[one.end : other.start]
    if gap.startswith(".") and not (one.initial or len(one.text) < 4):
        return False
    return _GAP.fullmatch(gap) is not None


def _after(text: str, words: list[_Word], first: int, *, strong: bool, title: bool) -> Iterator[Identifier]:
    """The name that begins at a word after a title or label: words with a capital that may be of a name."""
    if not title and _TITLE.match(text, words[first].start):
        return
    last = first - 1
    named = False
    for number in range(first, min(first + 5, len(words))):
        word = words[number]
        if number > first and (not _joined(text, words[number - 1], word) or _degree(text, words[number - 1])):
            break
        comma = number > first and "," in text[words[number - 1].end : word.start]
        likely = word.kind in (Kind.NAME, Kind.UNKNOWN) or (word.kind is Kind.AMBIGUOUS and (strong or named))
        if title and number == first and word.kind is not Kind.ORDINARY:
            likely = True
        elif not word.capital:
            # `dr smith`, `wife maria`: in lower case only what is a name and nothing else.
            likely = word.kind is Kind.NAME and not comma and (title or number == first or named)
        if (
            title
            and number == first
            and word.capital
            and word.kind is Kind.ORDINARY
            and (not word.shouted or word.text.lower() not in lists().notes)
        ):
            likely = not word.shouted or len(word.text) > 3
        if word.shouted and word.kind is Kind.UNKNOWN and not strong and not named:
            likely = False
        if strong and not title and number == first and word.kind is Kind.ORDINARY and _pair(text, words, number):
            likely = True
        if word.initial and (named or (number + 1 < len(words) and words[number + 1].kind is not Kind.ORDINARY)):
            likely = True
        if not likely or _is_eponym(text, word):
            break
        named = named or word.kind is not Kind.ORDINARY or title
        last = number
    if last >= first and not all(words[n].initial for n in range(first, last + 1)):
        yield Identifier(words[first].start, words[last].end, Category.NAME)


def _pair(text: str, words: list[_Word], number: int) -> bool:
    """Whether an ordinary word with a capital is followed by a likely name, as in `Patient: Hope Anderson`."""
    if not words[number].capital or number + 1 >= len(words):
        return False
    follower = words[number + 1]
    return follower.capital and follower.kind in (Kind.NAME, Kind.UNKNOWN) and _joined(text, words[number], follower)


def _degree(text: str, word: _Word) -> bool:
    """Whether a degree follows a word: `, M.D.`."""
    return _CREDENTIAL.match(text[word.end : word.end + 16]) is not None


def _is_eponym(text: str, word: _Word) -> bool:
    return _EPONYM.match(text[word.end : word.end + 60]) is not None


def _credentialed(text: str, words: list[_Word]) -> Iterator[Identifier]:
    """`Helga Brandt, MD`: words with a capital right before a degree."""
    for number, word in enumerate(words):
        if (
            not word.capital
            or (word.shouted and len(word.text) < 4)
            or not _CREDENTIAL.match(text[word.end : word.end + 16])
        ):
            continue
        if word.kind is Kind.ORDINARY and not (
            number and words[number - 1].capital and words[number - 1].kind is not Kind.ORDINARY
        ):
            continue
        first = number
        while (
            first and number - first < 3 and words[first - 1].capital and _joined(text, words[first - 1], words[first])
        ):
            before = words[first - 1]
            if before.kind is Kind.ORDINARY and not before.initial:
                break
            first -= 1
        yield Identifier(words[first].start, word.end, Category.NAME)


def _by_lists(text: str, words: list[_Word]) -> Iterator[Identifier]:
    """Names by the lists and words that are in none, each with the words of a name around it."""
    number = 0
    while number < len(words):
        if not _certain(text, words, number):
            number += 1
            continue
        first = last = number
        while first and _extends(text, words[first - 1], words[first - 1], words[first]):
            first -= 1
        while last + 1 < len(words) and _extends(text, words[last + 1], words[last], words[last + 1]):
            last += 1
        yield Identifier(words[first].start, words[last].end, Category.NAME)
        number = last + 1


def _extends(text: str, word: _Word, one: _Word, other: _Word) -> bool:
    if not _joined(text, one, other) or not (word.capital or word.kind is Kind.NAME) or _degree(text, one):
        return False
    if word.shouted and len(word.text) < 3 and word.kind is not Kind.NAME:
        return False
    return word.initial or (
        word.kind is not Kind.ORDINARY and not (word.shouted and word.kind is Kind.UNKNOWN and len(word.text) < 4)
    )


def _certain(text: str, words: list[_Word], number: int) -> bool:
    """Whether a word is a name by itself."""
    word = words[number]
    if word.kind is Kind.NAME and word.text.islower() and number + 1 < len(words):
        # `john smith`: two names in lower case.
        other = words[number + 1]
        return other.kind is Kind.NAME and text[word.end : other.start] == " " and len(word.text) > 2
    if not word.capital or len(word.text) < 2 or _is_eponym(text, word):
        return False
    beside = [
        other
        for other, pair in (
            (words[number - 1], (words[number - 1], word)) if number else (None, None),
            (words[number + 1], (word, words[number + 1])) if number + 1 < len(words) else (None, None),
        )
        if other is not None and pair is not None and other.capital and _joined(text, *pair)
    ]
    names_beside = any(other.kind in (Kind.NAME, Kind.UNKNOWN, Kind.AMBIGUOUS) for other in beside)
    if word.kind is Kind.NAME:
        return not word.shouted or len(word.text) > 3 or names_beside
    if word.kind is Kind.UNKNOWN:
        if word.shouted:
            # `NWOSU, VALERIA`: two words in capitals that are nothing else.
            return len(word.text) > 3 and any(o.kind is not Kind.ORDINARY and len(o.text) > 3 for o in beside)
        if any(sign.isupper() for sign in word.text[1:]) and not re.match(
            r"(?:Mc|Mac|O['\u2019]|De|Di|Le|La|Van)[A-Z]|\w+-[A-Z]", word.text
        ):
            return False
        return len(word.text) > 2 and not _DOSE.match(text[word.end : word.end + 24])
    if word.kind is Kind.AMBIGUOUS:
        initials = any(other.initial for other in beside)
        return (any(other.kind is Kind.AMBIGUOUS for other in beside) and not word.shouted) or (
            initials and not word.shouted
        )
    return False


def _places(text: str, words: list[_Word], starts: dict[int, int], known: WordLists) -> Iterator[Identifier]:
    for match in _EMPLOYER.finditer(text):
        yield Identifier(*match.span("value"), Category.PLACE)
    for pattern in (_FACILITY_NAME, _OF_FACILITY):
        for match in pattern.finditer(text):
            first = re.match(rf"[{_LETTERS}'\u2019-]+", match["value"])
            start = match.start("value")
            value = match["value"]
            # `Seen in Outpatient Clinic` names none: a word of a name, or a saint, has to be in it.
            parts = [m[0] for m in _TOKEN.finditer(value)]
            of_a_name = [part for part in parts[:-1] if known.kind(part) is not Kind.ORDINARY]
            if first is None or not (
                of_a_name
                or value.startswith(("St", "Saint", "Mt", "Mount"))
                or pattern is _OF_FACILITY
                or _proper(parts)
            ):
                continue
            yield Identifier(start, match.end("value"), Category.PLACE)
    for match in known.places.finditer(text):
        if match[0][0].isupper() and not _is_eponym(text, _Word(match[0], match.start(), match.end(), Kind.UNKNOWN)):
            plain = match[0].lower()
            single = plain in known.ordinary or plain in known.notes or plain in known.ambiguous
            if not single or _BEFORE_PLACE.search(text[max(0, match.start() - 24) : match.start() + 1]):
                yield Identifier(match.start(), match.end(), Category.PLACE)
    for match in _BEFORE_PLACE.finditer(text):
        number = starts.get(match.end())
        if number is None or words[number].kind not in (Kind.UNKNOWN, Kind.NAME) or words[number].shouted:
            continue
        if not words[number].capital:
            continue
        last = number
        while (
            last + 1 < len(words)
            and words[last + 1].capital
            and _joined(text, words[last], words[last + 1])
            and "," not in text[words[last].end : words[last + 1].start]
            and words[last + 1].text.lower() not in lists().notes
        ):
            last += 1
        if not _DOSE.match(text[words[last].end : words[last].end + 24]) and not _is_eponym(text, words[last]):
            yield Identifier(words[number].start, words[last].end, Category.PLACE)


def _proper(parts: list[str]) -> bool:
    """Whether a facility's words say more than its kind: `Riverside Hospital`, and not `Regional Hospital`."""
    return (
        any(part.lower() not in lists().facilities and part[0].isupper() for part in parts[:-1]) and len(parts[0]) > 2
    )
