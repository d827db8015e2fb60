"""Identifiers in many wordings: each of the words named is gone. Found by trying kinds, each a class of its own."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from risk_model.deidentification import deidentified

# fmt: off
GONE = [
("Pt is a pleasant 91 y.o. widow named Thelma Okafor-Reyes who lives alone in Fort Kent, Maine.","Thelma|Okafor|Reyes|91|Fort Kent"),
("Spoke w/ pt's brother-in-law Jim Vandenberg (cell 207.555.0133).","Jim|Vandenberg|0133"),
("CC: Dr. J. P. McAllister; Dr. Nguyen","McAllister|Nguyen"),
("Signed: R. Castellanos, APRN 3/14/2022 0815","Castellanos|3/14"),
("Patient seen and examined with Dr Lindqvist-Moore.","Lindqvist|Moore"),
("HUGHES,MARGARET ANN 1931-02-11 F","HUGHES|MARGARET|1931-02-11"),
("Ms. de la Cruz reports","de la Cruz"),
("Mr. O'Sullivan-Barnes declined","Sullivan|Barnes"),
("son Li Wei visited","Li Wei"),
("per Mrs. Wu","Wu"),
("Ng, Kim Thi DOB 1/2/45","Ng|Kim|Thi|1/2/45"),
("Patient's mother, Rosemary, at bedside","Rosemary"),
("her husband (Bob) drives","Bob"),
("daughter-in-law Xochitl","Xochitl"),
("She is a retired teacher from Lincoln Elementary in Waterville","Lincoln Elementary|Waterville"),
("Transferred from St. Mary's to our unit","Mary"),
("Presented to Maine Medical Center ED","Maine Medical"),
("Referred by Cleveland Clinic","Cleveland Clinic"),
("Admitted to Mass General on the 4th of July","Mass General|4th of July"),
("was seen at the VA in Togus","Togus"),
("Address: 77 Massachusetts Avenue, Cambridge MA 02139","77 Mass|Cambridge|02139"),
("lives at 12-34 56th St, Queens, NY","12-34|Queens"),
("RR 2 Box 118, Bangor","Bangor|118"),
("MRN#0012345","0012345"),("MRN:A1234567","A1234567"),("Med Rec No. 12-34-56","12-34-56"),("Medical Record Number is 445566","445566"),
("Acct No: 900012345","900012345"),("Visit # V00123456","V00123456"),("Case number 22-CV-0091","0091"),
("SSN: 123 45 6789","6789"),("SS# 123456789","123456789"),
("Ph. 2075550133","2075550133"),("(207)555-0133","0133"),("call 5-5512 or x4411","5512|4411"),("pager #4417","4417"),("beeper 31234","31234"),("ext. 4512","4512"),
("email: j.doe [at] example.com","j.doe"),("see http://10.0.0.4:8080/pt?id=9","10.0.0.4|9"),
("Device: Medtronic Azure XT DR MRI, SN RNB612345S","RNB612345S"),("Lot # 4K1123, exp 05/2024","4K1123|05/2024"),("implant model 5076-52","5076-52"),
("NPI: 1093817465","1093817465"),("License #MD12345","MD12345"),("DEA BC1234567","BC1234567"),("Policy #XYZ-99-1234","XYZ"),("Member ID: W2345 67890","W2345|67890"),("Medicaid # 12345678A","12345678A"),
("plate number ABC-1234","ABC-1234"),("VIN: 1FTFW1ET5DFC10312","1FTFW"),
("On Jan 3rd he fell","Jan 3rd"),("from 3/4/21 - 3/9/21","3/4/21|3/9/21"),("3/4-3/9 admission","3/4-3/9"),("since mid-March 2020","March 2020"),("Winter of 2019","2019"),("in '98 had MI","98"),("last seen 2 Feb","2 Feb"),("March 3rd-5th","March 3rd|5th"),("5/2019 colonoscopy","5/2019"),("07Mar2021","07Mar2021"),("2021.03.07","2021.03.07"),("DOD 2021/3/7","2021/3/7"),("Thurs 3/4","Thurs|3/4"),("Easter weekend","Easter"),("date: 20210307","20210307"),("2021-03-07T10:00:00Z","2021-03-07"),
("age 92","92"),("a 104 year-old","104"),("97F with","97"),("95 yr old","95"),("age: 101 yrs","101"),("ninety-four years old","ninety-four"),("in his late 90s","90s"),("nonagenarian","nonagenarian"),
("Twitter @jdoe77","jdoe77"),("IP 192.168.10.22","192.168.10.22"),("MAC 00:1A:2B:3C:4D:5E","1A:2B"),
("Interpreter ID 88213 (Somali)","88213"),("Thank you, Gwyneth","Gwyneth"),("- Ravi","Ravi"),("RN Jodie notified","Jodie"),("Jodie RN notified","Jodie"),("Nurse Practitioner Bartlett","Bartlett"),("PT: Smith","Smith"),("attending is Dr. Ho","Ho"),("Dr. Ho","Ho"),("Dr. Foley","Foley"),("Dr. Pain","Pain"),("Mr. Long","Long"),("Dr. White and Dr. Black","White|Black"),("Grace Hopper","Grace|Hopper"),("Mark Young","Mark|Young"),("Will Smith","Will|Smith"),
("patient employed by Walmart","Walmart"),("works at Bath Iron Works","Bath Iron"),("worked for Boeing","Boeing"),("attends First Baptist Church","First Baptist"),
("resident of Kennebec County","Kennebec"),("from Nuku'alofa","Nuku"),("flew from Lagos","Lagos"),("grew up in Hallowell","Hallowell"),
("lives with Jean-Pierre","Jean|Pierre"),("Discussed w/ Drs. Patel and Shah","Patel|Shah"),("attg: Koh","Koh"),("D: 3/4/2021 T: 3/5/2021 JOB 778812 kw","3/4/2021|778812"),
("Pt. SMITH seen","SMITH"),("Mrs. JONES","JONES"),("DR. ADEBAYO","ADEBAYO"),("patient john smith arrived","john|smith"),("dr. mehta","mehta"),

]
# fmt: on


@pytest.mark.parametrize(("text", "words"), GONE)
def test_the_words_are_gone(text: str, words: str) -> None:
    new = deidentified(text, timedelta(days=-403), 2021).text
    assert [word for word in words.split("|") if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", new)] == []
