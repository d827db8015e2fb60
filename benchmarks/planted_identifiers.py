"""Notes of made-up patients with identifiers planted at known places, for `benchmarks.deidentification`.

The names, streets, towns and facilities are lists of this module, and half of the surnames are put together from
syllables, so that no list of the rules can hold them. The rules read none of it. Styles of the part `held_out` were
written before the rules were tried on any note, and their errors are not printed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

GIVEN = (
    "Aaliyah Abner Adaeze Agatha Alasdair Alma Amara Anselm Antonella Asha Bartholomew Beatrix Bogdan Branwen Cecilia Chidi "
    "Clemence Concepcion Cordelia Dariusz Delphine Dimitra Dolores Ebenezer Edmund Eleni Elspeth Emeka Enid Ephraim Ewa Farid "
    "Feodor Gideon Giselle Gulnara Gwendolyn Haruto Hedwig Ignatius Imogen Ingeborg Isolde Itzel Jamal Jocelyn Joaquin Kaveh "
    "Keiko Kwame Lachlan Leopold Linnea Ludmila Magnus Malik Marguerite Mbali Meera Mireille Nadia Nasrin Obadiah Octavia "
    "Odalys Oleksandr Orla Oyelaran Percival Petronella Qasim Ragnhild Rashid Reinhold Rosalind Saoirse Sibusiso Silvester "
    "Sunniva Takumi Tamsin Thaddeus Ulrike Valeria Wilhelmina Xiomara Yevgenia Zacharias Zuzanna Mary James Robert Linda Grace "
    "Frank Susan Thomas Helen Rose"
).split()
SURNAMES = (
    "Abernathy Achterberg Adichie Aldecoa Arbuckle Asante Baptiste Batbayar Bjornstad Blankenship Boateng Brzezinski Cadwallader "
    "Chowdhury Colquhoun Czajkowski Dahlstrom Delacroix Dragomir Echeverria Eisenhauer Fairweather Featherstone Fitzwilliam "
    "Galanis Ganzorig Goldfarb Grabowski Guidry Hakimi Halvorsen Hatfield Hollingsworth Igwe Iturbide Jankovic Kaczmarek "
    "Kalogeropoulos Karimov Kasprzak Kimball Kirkpatrick Kuramoto Lagerfeld Landgraf Macpherson Mbeki Middlebrook Moskowitz "
    "Mutombo Nakagawa Niemeyer Nwosu Ochoa Oglethorpe Olorunfemi Ostergaard Papadakis Penhaligon Quackenbush Quispe "
    "Rasmussen Ravenscroft Rutkowski Sakamoto Santangelo Schuyler Shostak Skarsgard Stavropoulos Strathmore Szymanski "
    "Thistlewood Tikhonov Tremblay Uzoma Vandermeer Villanueva Vukovic Wainwright Weatherford Winterbourne Wojcik Yamaguchi "
    "Yilmaz Zabriskie Zamora Zielke Smith Brown Young Walker Johnson Long Bell King Rivera Chen Patel Nguyen"
).split()
_SYLLABLES = ("bra kel tor mon vis dun hal rik sten lor mar gan pol dra nev sil tam ber wick ford ham ley ton by feld stra quo zen "
              "vik lun dor").split()  # fmt: skip
STREETS = "Larkspur Juniper Tamarack Hollister Wexford Pinecrest Old Quarry Sycamore Bluff Cottonwood Millrace Dunmore Harbor View".split()
STREET_KINDS = (
    "Street",
    "St",
    "Ave",
    "Avenue",
    "Road",
    "Rd",
    "Lane",
    "Drive",
    "Dr",
    "Blvd",
    "Court",
    "Way",
    "Terrace",
    "Place",
)
TOWNS = (
    "Brattleboro Pawtucket Chillicothe Waukesha Ypsilanti Kalamazoo Poughkeepsie Schenectady Paducah Yakima Bozeman Natchitoches "
    "Sheboygan Muskogee Terre_Haute Coeur_dAlene Walla_Walla Eau_Claire Bethlehem Altoona Hackensack Winnemucca Tuscaloosa "
    "Boston Chicago Denver Sacramento Milwaukee Spokane"
).split()
STATES = "VT RI OH WI MI NY KY WA MT LA OK IN ID PA NJ NV AL MA IL CO CA".split()
FACILITIES = (
    "Wexcombe General Hospital;Saint Brigid Medical Center;Lake Tamarack Nursing Home;Dunmore Valley Rehabilitation Center;"
    "Hollister Memorial Hospital;Pinecrest Manor;Quarry Hill Hospice;Northgate Community Hospital;Ashgrove Assisted Living;"
    "Bellweather Clinic;Mount Ararat Hospital;Tidewater Regional Medical Center;University of Ellensworth Hospital"
).split(";")
EMPLOYERS = (
    "Brightwater Logistics;Kestrel Industries;Oakhurst Elementary School;Vantis Corporation;Marlowe Foods".split(";")
)


@dataclass(frozen=True, slots=True)
class Planted:
    """An identifier at `text[start:end]`, with its kind."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class PlantedNote:
    style: str
    text: str
    planted: tuple[Planted, ...]
    known: frozenset[str]
    """The patient's own names and numbers, as the structured record has them."""


class Writer:
    """Draws what a template asks for: `{patient}`, `{doctor}`, `{date}`, ... and keeps where it was written."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        one = self.random
        self.first, self.last = one.choice(GIVEN), self._surname()
        self.admitted = date(one.randint(2012, 2025), one.randint(1, 12), one.randint(1, 28))
        self.age = one.randint(90, 101) if one.random() < 0.35 else one.randint(24, 89)
        self.mrn = f"{one.randint(10**6, 10**8 - 1)}"

    def _surname(self) -> str:
        one = self.random
        if one.random() < 0.5:
            return one.choice(SURNAMES)
        return "".join(one.choice(_SYLLABLES) for _ in range(one.randint(2, 3))).capitalize()

    def _person(self) -> str:
        return f"{self.random.choice(GIVEN)} {self._surname()}"

    def _date(self, form: str) -> str:
        day = self.admitted + timedelta(days=self.random.randint(-40, 40))
        return day.strftime(form).replace(" 0", " ")

    def _digits(self, shape: str) -> str:
        letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
        return re.sub(
            "[9A]", lambda m: str(self.random.randint(0, 9)) if m[0] == "9" else self.random.choice(letters), shape
        )

    def draw(self, name: str) -> tuple[str, str]:
        """Returns the kind and the words for one place of a template."""
        one = self.random
        makers: dict[str, tuple[str, Callable[[], str]]] = {
            "patient": ("name", lambda: f"{self.first} {self.last}"),
            "last": ("name", lambda: self.last),
            "first": ("name", lambda: self.first),
            "PATIENT": ("name", lambda: f"{self.last}, {self.first}".upper()),
            "person": ("name", self._person),
            "given": ("name", lambda: one.choice(GIVEN)),
            "surname": ("name", self._surname),
            "hyphen": ("name", lambda: f"{one.choice(GIVEN)} {self._surname()}-{self._surname()}"),
            "initialed": ("name", lambda: f"{one.choice(GIVEN)[0]}. {self._surname()}"),
            "date": ("date", lambda: self._date(one.choice(("%m/%d/%Y", "%m/%d/%y", "%Y-%m-%d", "%B %d, %Y", "%d %b %Y", "%d-%b-%Y")))),
            "longdate": ("date", lambda: self._date(one.choice(("%B %d, %Y", "%b %d, %Y", "%A, %B %d, %Y", "%d %B %Y")))),
            "shortdate": ("date", lambda: f"{self.admitted.month}/{self.admitted.day}"),
            "monthday": ("date", lambda: self._date("%B %d")),
            "month": ("date", lambda: self._date("%B %Y")),
            "iso": ("date", lambda: self._date("%Y-%m-%d")),
            "dob": ("date", lambda: (self.admitted - timedelta(days=365 * self.age + 40)).strftime(one.choice(("%m/%d/%Y", "%d %b %Y", "%Y-%m-%d")))),
            "age": ("age" if self.age > 89 else "", lambda: str(self.age)),
            "phone": ("phone", lambda: self._digits(one.choice(("(999) 555-9999", "999-555-9999", "999.555.9999", "555-9999", "+1 999 555 9999")))),
            "fax": ("fax", lambda: self._digits(one.choice(("(999) 555-9999", "999-555-9999")))),
            "email": ("email", lambda: f"{one.choice(GIVEN)}.{self._surname()}@example.{one.choice(('org', 'com', 'net'))}".lower()),
            "ssn": ("ssn", lambda: self._digits("999-99-9999")),
            "mrn": ("record", lambda: self.mrn),
            "accession": ("record", lambda: self._digits(one.choice(("S99-99999", "AA-999999", "99-AA-99999")))),
            "plan": ("plan", lambda: self._digits(one.choice(("AAA999999999", "9AA9-AA9-AA99", "W999999999")))),
            "account": ("account", lambda: self._digits(one.choice(("9999999", "A99999999", "99-999999")))),
            "licence": ("licence", lambda: self._digits(one.choice(("AA9999999", "9999999999", "MD-99999")))),
            "vin": ("vehicle", lambda: self._digits("9AAAA99A99A999999")),
            "device": ("device", lambda: self._digits(one.choice(("PJN9999999", "AA-99999-A", "999999A")))),
            "url": ("url", lambda: f"https://portal.{self._surname().lower()}.example/{self._digits('9999')}"),
            "ip": ("ip", lambda: f"10.{one.randint(0, 255)}.{one.randint(0, 255)}.{one.randint(1, 254)}"),
            "street": ("place", lambda: f"{one.randint(2, 9899)} {one.choice(STREETS)} {one.choice(STREET_KINDS)}"),
            "town": ("place", lambda: one.choice(TOWNS).replace("_", " ")),
            "townzip": ("place", lambda: f"{one.choice(TOWNS).replace('_', ' ')}"),
            "zip": ("place", lambda: self._digits("99999")),
            "state": ("", lambda: one.choice(STATES)),
            "facility": ("place", lambda: one.choice(FACILITIES)),
            "employer": ("place", lambda: one.choice(EMPLOYERS)),
        }  # fmt: skip
        kind, make = makers[name]
        return kind, make()

    def note(self, style: str, template: str) -> PlantedNote:
        """Returns a template filled."""
        text, planted = "", []
        for literal, name in re.findall(r"([^{]*)(?:\{(\w+)\})?", template):
            text += literal
            if name:
                kind, words = self.draw(name)
                if kind:
                    planted.append(Planted(len(text), len(text) + len(words), kind))
                text += words
        return PlantedNote(style, text, tuple(planted), frozenset({self.first, self.last, self.mrn}))


DEVELOPMENT = {
    "discharge summary": """DISCHARGE SUMMARY
Patient Name: {patient}    MRN: {mrn}    DOB: {dob}
Date of Admission: {date}   Date of Discharge: {date}
Attending Physician: {person}, MD     PCP: Dr. {surname}
HISTORY OF PRESENT ILLNESS: Mr. {last} is a {age}-year-old man with coronary artery disease, type 2 diabetes mellitus and
COPD who presented from {facility} on {date} with dyspnea and productive cough. His daughter {given} reports fever.
HOSPITAL COURSE: Started on Zosyn 3.375 g IV q6h and vancomycin; Foley catheter placed. Creatinine 2.1 mg/dL, sodium 131.
Echo on {shortdate} showed LVEF 35%. Discussed with Dr. {surname} of cardiology.
DISPOSITION: to {facility}, {town}, {state}. Follow up with {person}, NP on {date}. Phone {phone}. Fax: {fax}.
Electronically signed by: {person}, MD {date} 14:32
""",
    "progress note": """Progress note {date} 07:45
{PATIENT}  MRN {mrn}  Bed 12
S: {age} y/o F with Crohn's disease and AKI, hospital day 4. Pain 3/10. Slept well. Husband {given} at bedside.
O: T 37.2 BP 118/64 HR 88 RR 18 SpO2 96% on 2 L. Lungs clear. Strength 5/5 in all extremities. 2/6 systolic murmur.
Labs {shortdate}: WBC 11.2, Hgb 9.8, Plt 210, Na 136, K 4.1, Cr 1.4, lactate 1.8. Blood culture 2/2 bottles negative.
A/P: 1. AKI improving, hold Lasix. 2. Wells score 1.5. 3. Glasgow coma scale 15. Continue Lovenox 40 mg daily.
Plan d/w {person} RN and son ({phone}). {initialed} MD, pager {phone}
""",
    "social history": """Social work assessment. Patient lives at {street}, {townzip}, {state} {zip} with her sister {person}.
She worked for {employer} until {month}. Emergency contact: {person} (daughter), {phone}, {email}.
Insurance: Medicare ID {plan}. SSN {ssn}. Account number {account}. Driver's license {licence}.
Patient was born on {dob} in {town}. Denies tobacco, alcohol 2 drinks a week. Uses a walker. Denies falls.
""",
    "operative": """OPERATIVE REPORT
PATIENT: {PATIENT}
Surgeon: {person}, M.D.   Assistant: {hyphen}, PA-C   Anesthesiologist: {person}, MD
Date of procedure: {longdate}
Procedure: dual chamber pacemaker implantation, generator serial number {device}, right ventricular lead lot {device}.
Estimated blood loss 50 mL. Specimen accession number {accession}. Whipple procedure was not performed.
Dictated by {person} on {date}. Report at {url}, workstation {ip}.
""",
}
HELD_OUT = {
    "letter": """{facility}
{street}, {townzip}, {state} {zip}
{longdate}

Dear Dr. {surname},

Thank you for referring {patient}, a {age} year old woman whom I saw in clinic on {longdate}. As you know, Mrs. {last}
has Parkinson's disease, hypertension and chronic kidney disease. She was admitted to {facility} in {month} with a Colles
fracture. She moved here from {town} to be near her niece, {person}. I have started carbidopa-levodopa 25/100 three times a
day and stopped metoclopramide. Her blood pressure was 132/78 and her weight 61 kg. I will see her again on {date}.
Please call my office at {phone} or write to {email}.

Sincerely,
{person}, MD, FACC
cc: {person}, DO; {hyphen}
""",
    "triage": """ED TRIAGE {iso} 22:10 | {PATIENT} | DOB {dob} | acct# {account} | MRN {mrn}
CC: SOB x 3 days. Brought by EMS from {facility}. Pt's wife {given} states he ran out of Eliquis on {shortdate}.
PMH: CHF, afib, DM2, CKD 3b. Allergies: PCN. Meds: Lasix 40 mg BID, metoprolol 25 mg. {age} yo M, A&O x 3, GCS 15.
VS 98.4 110 24 142/88 91% RA. ESI 2. Spoke with {person} at {phone}. RN {initialed}
""",
    "nursing": """Nursing note. Received report from {given} {surname} RN at 1900. {first} is resting comfortably; oriented to
person and place. IV in left forearm. Urine 350 mL over the shift. Skin intact, Braden 16. {last} asked for her son {given},
who lives in {town} and works at {employer}. Family meeting planned for {monthday} with {person}, case manager, and
Dr {surname}. Implanted device SN {device}; rep {person} called at {phone}. Policy number {plan}. Vehicle VIN {vin}.
""",
    "telephone": """Telephone encounter, {date}. {person} (health care proxy) called about her mother {patient}, {age} y.o., who has had
vomiting since {longdate}. No chest pain. Advised ondansetron 4 mg. Portal: {url}. Sent copy to fax {fax} and {email}.
Home address confirmed: {street}, {townzip} {state} {zip}. NPI {licence}. Medical record number {mrn}. SSN: {ssn}.
Labs of {date} at outside lab, accession {accession}: INR 2.4, hemoglobin 10.2, ferritin 88. Next INR {date}. {person}, PharmD
""",
}
PARTS = {"development": DEVELOPMENT, "held_out": HELD_OUT}


def notes(part: str, count: int, seed: int = 1) -> list[PlantedNote]:
    """Returns `count` notes in the styles of a part, the same ones every time."""
    styles = list(PARTS[part].items())
    return [Writer(f"{part} {seed} {n}").note(*styles[n % len(styles)]) for n in range(count)]
