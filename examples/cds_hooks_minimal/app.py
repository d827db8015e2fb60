"""A CDS Hooks service in fifteen lines: flask --app examples/cds_hooks_minimal/app.py run"""

from flask import Flask

from cds_hooks import Card, CdsHooks, HookRequest, Source

hooks = CdsHooks(allowed_origins=["*"])
TEMPLATES = {"patient": "Patient/{{context.patientId}}"}


@hooks.service("birthday", hook="patient-view", title="Birthday", prefetch=TEMPLATES)
def birthday(request: HookRequest) -> list[Card]:
    """The date of birth."""
    born = str(request.prefetch["patient"].get("birthDate", "unknown"))[:10]
    return [Card(f"Date of birth: {born}", Source("Example hospital"))]


app = Flask(__name__)
hooks.init_app(app)
