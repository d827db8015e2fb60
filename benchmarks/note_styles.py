"""Five writing styles: names, units, sentences. Data of `note_writing`, nothing of any patient.

Styles 0 to 2 were at hand when the value reader was made. Styles 3 and 4 were written before it was first run on any
generated note and their misses were never looked at: they represent notes of a hospital not seen before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Phrases = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class WritingStyle:
    """The habits of one hospital's writers.

    `plain`, `trend` and `peak` are sentences with {name}, {value}, {old} and {unit}; `graded` are phrases by
    `<concept> <grade>`, with the grades of `fhir_mapping`'s note words.
    """

    names: Mapping[str, str]
    units: Mapping[str, str]
    plain: tuple[str, ...]
    trend: tuple[str, ...]
    peak: tuple[str, ...]
    gas: tuple[str, ...]
    urine: tuple[str, ...]
    graded: Phrases
    ventilated: tuple[str, ...]
    extubated: tuple[str, ...]
    breathing: tuple[str, ...]
    asides: tuple[str, ...]
    """Sentences that must not be read as this patient's values: {n} is a number that has nothing to do with them."""
    filler: tuple[str, ...]
    headings: tuple[str, str]
    joint: str = ". "
    percent: bool = False


_MG = {"creatinine": "mg/dL", "bun": "mg/dL", "bilirubin": "mg/dL", "lactate": "mmol/L", "bicarbonate": "mmol/L"}

WRITING_STYLES: tuple[WritingStyle, ...] = (
    WritingStyle(
        names={
            "creatinine": "creatinine", "bun": "BUN", "bilirubin": "total bilirubin", "lactate": "lactate",
            "bicarbonate": "bicarbonate", "ph": "pH", "pao2": "PaO2", "paco2": "PaCO2", "fio2": "FiO2", "gcs": "GCS",
        },
        units=_MG | {"pao2": "mmHg", "paco2": "mmHg"},
        plain=("{name} {value} {unit}", "{name} was {value} {unit}", "The {name} is {value} {unit} this morning",
               "{name} now {value} {unit}"),
        trend=("{name} rose from {old} to {value} {unit}", "{name} went {old} -> {value}"),
        peak=("{name} {value} {unit}, peak {old}",),
        gas=("ABG {ph}/{paco2}/{pao2} on FiO2 {fio2}", "Blood gas: pH {ph}, pCO2 {paco2}, pO2 {pao2} on FiO2 {fio2}"),
        urine=("urine output {rate} mL/h", "urine output {volume} mL over the last {hours} hours"),
        graded={
            "gcs -2": ("unresponsive, opens eyes to pain only", "comatose off sedation"),
            "gcs -1": ("obtunded", "drowsy but rousable", "confused overnight"),
            "gcs 0": ("alert and oriented", "awake and alert"),
            "lactate 2": ("severe lactic acidosis", "lactate markedly elevated"),
            "lactate 1": ("lactate remains elevated",), "lactate 0": ("no lactataemia", "lactate normal"),
            "creatinine 2": ("markedly elevated creatinine",), "creatinine 1": ("acute kidney injury persists",),
            "creatinine 0": ("creatinine within normal limits", "no acute kidney injury"),
            "bun 2": ("markedly elevated BUN",), "bun 1": ("uraemic", "BUN elevated"), "bun 0": ("BUN normal",),
            "bilirubin 2": ("deeply jaundiced",), "bilirubin 1": ("jaundiced",),
            "bilirubin 0": ("not jaundiced", "anicteric"),
            "urine -2": ("anuric",), "urine -1": ("oliguric", "poor urine output"), "urine 0": ("good urine output",),
            "urine 1": ("polyuric",),
            "bicarbonate -2": ("bicarbonate very low",), "bicarbonate -1": ("metabolic acidosis",),
            "bicarbonate 0": ("bicarbonate normal",), "bicarbonate 1": ("bicarbonate elevated",),
        },
        ventilated=("intubated and ventilated", "remains on mechanical ventilation"),
        extubated=("extubated, on nasal cannula", "now extubated"),
        breathing=("not ventilated", "breathing spontaneously on room air"),
        asides=("Mother had kidney failure with creatinine {n}", "Baseline creatinine 1.0",
                "Call if urine output < 30 mL/h", "Keep MAP > 65", "Would not want to be intubated long term",
                "Urine sodium {n}"),
        filler=("Family updated at the bedside", "Lines intact", "Tolerating tube feeds", "Skin warm and dry"),
        headings=("Interval history", "Assessment and plan"),
    ),
    WritingStyle(
        names={
            "creatinine": "Cr", "bun": "BUN", "bilirubin": "T bili", "lactate": "lac", "bicarbonate": "HCO3",
            "ph": "pH", "pao2": "pO2", "paco2": "pCO2", "fio2": "FiO2", "gcs": "gcs",
        },
        units={},
        plain=("{name} {value}", "{name} = {value}", "{name}: {value}", "{name} {value} today"),
        trend=("{name} {old}->{value}", "{name} {value} (from {old})", "{name} up to {value} from {old}"),
        peak=("{name} {value} (peak {old})",),
        gas=("ABG: {ph} / {paco2} / {pao2} FiO2 {fio2}", "gas {ph}/{paco2}/{pao2}/{hco3}"),
        urine=("UOP {rate} cc/h", "UO {volume} cc/{hours}h"),
        graded={
            "gcs -2": ("unresponsive", "withdraws to pain only"), "gcs -1": ("lethargic", "confused"),
            "gcs 0": ("A&Ox3", "neurologically intact"),
            "lactate 2": ("lactate very high",), "lactate 1": ("lactic acidosis", "raised lac"),
            "lactate 0": ("lac wnl", "no lactic acidosis"),
            "creatinine 2": ("Cr severely elevated",), "creatinine 1": ("AKI",), "creatinine 0": ("Cr wnl", "no AKI"),
            "bun 2": ("BUN very high",), "bun 1": ("azotemic",), "bun 0": ("BUN wnl",),
            "bilirubin 2": ("markedly icteric",), "bilirubin 1": ("icteric",), "bilirubin 0": ("anicteric", "bili wnl"),
            "urine -2": ("anuric",), "urine -1": ("oliguric", "marginal urine output"),
            "urine 0": ("adequate urine output",), "urine 1": ("brisk diuresis",),
            "bicarbonate -2": ("HCO3 critically low",), "bicarbonate -1": ("low bicarb",),
            "bicarbonate 0": ("HCO3 wnl",), "bicarbonate 1": ("HCO3 elevated",),
        },
        ventilated=("intubated, vent settings unchanged", "on vent AC/VC"),
        extubated=("extubated to NC",),
        breathing=("never intubated", "on RA", "sats ok on nasal cannula"),
        asides=("FHx: father on HD, Cr {n}", "b/l Cr 0.9, prior Cr 1.1 in 2009", "notify HO for UO <30 cc/h",
                "goal MAP >65", "r/o sepsis", "KCl 40 mEq given", "LDH 512"),
        filler=("PIV x2", "turned q2h", "fam visiting", "cont current plan"),
        headings=("S", "A/P"),
        joint=", ",
    ),
    WritingStyle(
        names={
            "creatinine": "creat", "bun": "blood urea nitrogen", "bilirubin": "bili", "lactate": "arterial lactate",
            "bicarbonate": "bicarb", "ph": "arterial pH", "pao2": "PaO2", "paco2": "PaCO2", "fio2": "FiO2",
            "gcs": "Glasgow coma scale",
        },
        units={"lactate": "mmol/l", "creatinine": "mg/dl"},
        plain=("{name} of {value} {unit}", "{name} at {clock} was {value} {unit}", "noted {name} {value} {unit}",
               "{name} currently {value} {unit}"),
        trend=("{name} {value} {unit}, was {old}", "{name} trending from {old} to {value}"),
        peak=("{name} peaked at {old}, now {value} {unit}",),
        gas=("arterial pH {ph}, PaCO2 {paco2} and PaO2 {pao2} on FiO2 of {fio2}",),
        urine=("urine output averaging {rate} ml/hr", "made {hours} h urine, urine {volume} ml over {hours} hours"),
        graded={
            "gcs -2": ("responds to pain only", "no eye opening to voice or pain"),
            "gcs -1": ("somnolent", "disoriented to time and place"),
            "gcs 0": ("fully alert and follows all commands",), "lactate 2": ("severe hyperlactataemia",),
            "lactate 1": ("hyperlactatemia",),
            "lactate 0": ("no evidence of hyperlactatemia",),
            "creatinine 2": ("creat grossly elevated",), "creatinine 1": ("renal impairment",),
            "creatinine 0": ("renal function normal",),
            "bun 2": ("blood urea nitrogen grossly elevated",), "bun 1": ("azotaemia",),
            "bun 0": ("blood urea nitrogen unremarkable",),
            "bilirubin 2": ("deeply icteric",), "bilirubin 1": ("scleral icterus",), "bilirubin 0": ("no jaundice",),
            "urine -2": ("scant urine output",), "urine -1": ("oliguria", "low urine output"),
            "urine 0": ("satisfactory urine output",), "urine 1": ("polyuria",),
            "bicarbonate -2": ("markedly low bicarb",), "bicarbonate -1": ("reduced bicarb",),
            "bicarbonate 0": ("bicarb unremarkable",), "bicarbonate 1": ("bicarb raised",),
        },
        ventilated=("mechanically ventilated via ETT", "ventilator dependent"),
        extubated=("extubated and self-ventilating",),
        breathing=("self-ventilating", "no mechanical ventilation"),
        asides=("Sister required dialysis with a creatinine of {n}", "Usual creatinine 1.1 six months ago",
                "If urine output falls below 20 ml/hr give fluid", "Aim for bicarb above 20",
                "Consider intubation if tiring", "Spot urine creatinine {n}"),
        filler=("Repositioned and mouth care given", "Chaplain visited", "Physiotherapy attended", "Dressings clean"),
        headings=("Overnight events", "Impression"),
    ),
    WritingStyle(
        names={
            "creatinine": "serum creatinine", "bun": "urea nitrogen", "bilirubin": "bilirubin",
            "lactate": "lactic acid", "bicarbonate": "serum bicarbonate", "ph": "blood pH", "pao2": "PaO2",
            "paco2": "PaCO2", "fio2": "FiO2",
            "gcs": "Glasgow Coma Score",
        },
        units=_MG | {"lactate": "mmol/L", "pao2": "mm Hg", "paco2": "mm Hg"},
        plain=("{name} came back at {value} {unit}", "{name}: {value} {unit}", "labs show {name} {value} {unit}",
               "with a {name} of {value} {unit}"),
        trend=("{name} climbing, {old} to {value} {unit}", "{name} has changed from {old} to {value} {unit}"),
        peak=("{name} reached {old} and is now {value} {unit}",),
        gas=("arterial blood gas with pH {ph}, PaCO2 {paco2} mm Hg, PaO2 {pao2} mm Hg at FiO2 {fio2}",),
        urine=("averaging {rate} mL per hour of urine, i.e. urine output {rate} mL per hour",
               "urine output totalled {volume} mL in the past {hours} hours"),
        graded={
            "gcs -2": ("remains in deep coma", "unconscious", "extensor posturing"),
            "gcs -1": ("encephalopathic", "arousable to voice", "sleepy and slow to answer"),
            "gcs 0": ("awake and appropriate", "mentating well"),
            "lactate 2": ("lactic acid strikingly high",), "lactate 1": ("lactatemia",),
            "lactate 0": ("lactic acid has cleared", "lactic acid unremarkable"),
            "creatinine 2": ("kidneys have shut down", "serum creatinine markedly raised"),
            "creatinine 1": ("renal dysfunction",), "creatinine 0": ("preserved renal function",),
            "bun 2": ("grossly uremic",), "bun 1": ("uremia",), "bun 0": ("urea nitrogen within range",),
            "bilirubin 2": ("deeply jaundiced skin",), "bilirubin 1": ("yellow sclerae", "hyperbilirubinemia"),
            "bilirubin 0": ("sclerae clear", "no hyperbilirubinemia"),
            "urine -2": ("not making urine", "bladder scan empty"),
            "urine -1": ("oliguria", "urine output tailing off"),
            "urine 0": ("making good urine",), "urine 1": ("diuresing well",),
            "bicarbonate -2": ("profoundly low serum bicarbonate",), "bicarbonate -1": ("decreased serum bicarbonate",),
            "bicarbonate 0": ("serum bicarbonate in range",), "bicarbonate 1": ("high serum bicarbonate",),
        },
        ventilated=("still on the ventilator", "invasive ventilation continues", "tube in place, fully supported"),
        extubated=("liberated from the ventilator", "extubated this shift"),
        breathing=("no ventilatory support", "comfortable on room air"),
        asides=("Her uncle had a bilirubin of {n} before he was transplanted", "Outpatient serum creatinine 1.2",
                "Target serum bicarbonate 22", "Hold diuretics should urine output drop under 40 mL per hour",
                "He might need to be intubated", "Creatinine clearance {n}"),
        filler=("Discussed on rounds", "Pharmacy reviewed the chart", "Continue antibiotics", "Mobilised to chair"),
        headings=("Subjective", "Assessment"),
    ),
    WritingStyle(
        names={
            "creatinine": "Crea", "bun": "Urea nitrogen", "bilirubin": "Bili total", "lactate": "Lact",
            "bicarbonate": "Bicarb", "ph": "pH", "pao2": "pO2", "paco2": "pCO2", "fio2": "fiO2", "gcs": "GCS",
        },
        units={"creatinine": "umol/L", "bilirubin": "umol/L", "pao2": "kPa", "paco2": "kPa", "lactate": "mmol/L"},
        plain=("{name} {value}{unit}", "{name} - {value} {unit}", "{name} ({value} {unit})",
               "latest {name} {value} {unit}"),
        trend=("{name} {old} > {value} {unit}", "{name} {value} {unit} (prev {old})"),
        peak=("{name} max {old}, {value} {unit} at {clock}",),
        gas=("pH {ph} pCO2 {paco2} kPa pO2 {pao2} kPa fiO2 {fio2}",),
        urine=("U/O {rate} mls/hr", "urine {volume} mls last {hours} hrs"),
        graded={
            "gcs -2": ("E1 V1 M2", "unrousable"), "gcs -1": ("stuporous", "muddled and drowsy"),
            "gcs 0": ("GCS full", "aox3"),
            "lactate 2": ("Lact through the roof",), "lactate 1": ("Lact up", "hyperlactataemia"),
            "lactate 0": ("Lact fine", "no hyperlactataemia"),
            "creatinine 2": ("Crea critically high",), "creatinine 1": ("ARF",), "creatinine 0": ("Crea ok",),
            "bun 2": ("Urea nitrogen very high",), "bun 1": ("azotaemic",), "bun 0": ("Urea nitrogen ok",),
            "bilirubin 2": ("very yellow",), "bilirubin 1": ("jaundice +",),
            "bilirubin 0": ("nil jaundice", "anicteric"), "urine -2": ("nil urine output",),
            "urine -1": ("oliguric", "minimal wees"),
            "urine 0": ("passing good volumes of urine",), "urine 1": ("polyuric",),
            "bicarbonate -2": ("Bicarb very low",), "bicarbonate -1": ("Bicarb low",), "bicarbonate 0": ("Bicarb ok",),
            "bicarbonate 1": ("Bicarb high",),
        },
        ventilated=("ETT in situ", "I+V", "SIMV overnight"),
        extubated=("tube out",),
        breathing=("SV on face mask oxygen", "self ventilating"),
        asides=("Brother: Crea {n} pre transplant", "old Crea 88 in 2008", "Plan: filter if Crea above 400 umol/L",
                "Titrate fiO2 to sats", "may need intubated if tires", "urine Na {n}"),
        filler=("NOK aware", "obs stable", "d/w reg", "TEDs on"),
        headings=("Hx", "Plan"),
        joint="; ",
        percent=True,
    ),
)  # fmt: skip
UNSEEN = (3, 4)
"""Styles that were not looked at while the value reader was made."""
