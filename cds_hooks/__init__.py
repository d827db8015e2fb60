"""CDS Hooks for Python: services by decorator, validated cards, and a client for tests and EHRs.

    from cds_hooks import Card, CdsHooks, HookRequest, Source

    hooks = CdsHooks()

    @hooks.service("hello", hook="patient-view", description="Says hello.")
    def hello(request: HookRequest) -> list[Card]:
        return [Card("Hello", Source("Example"))]

    app.register_blueprint(hooks.blueprint())

The client is `cds_hooks.client`. Only the blueprint needs Flask, only the client needs requests.
"""

from cds_hooks.cards import MAX_SUMMARY, Action, Card, CardCoding, HookResponse, Link, Source, Suggestion
from cds_hooks.errors import (
    CallFailedError,
    CallRefusedError,
    CardError,
    ClientError,
    FeedbackError,
    FetchError,
    ForbiddenError,
    HandlerFailedError,
    HookError,
    InvalidAnswerError,
    KeyRefusedError,
    MalformedRequestError,
    MethodNotSupportedError,
    MissingPrefetchError,
    ServiceDefinitionError,
    TokenRefusedError,
    TooLargeError,
    UnavailableError,
    UnknownCardError,
    UnknownServiceError,
    UnsupportedMediaTypeError,
    UnusablePrefetchError,
    operation_outcome,
)
from cds_hooks.feedback import AcceptedFeedback, Feedback, OverriddenFeedback, OverrideReason, parse_feedback
from cds_hooks.flask_app import CdsHooks
from cds_hooks.hook_request import FHIR_ID, FhirAuthorization, HookRequest, parse_request
from cds_hooks.keys import ALGORITHMS, MIN_RSA_BITS, FetchedKeys, VerifyingKey, parse_keys, read_keys
from cds_hooks.middleware import Incoming, Observer
from cds_hooks.openapi import OpenApi, openapi_document
from cds_hooks.prefetch import (
    MAX_ENTRIES,
    Prefetch,
    PrefetchTemplate,
    arrived,
    complete,
    fetch_all,
    fill,
    resource_type,
)
from cds_hooks.registry import HookServices
from cds_hooks.services import ReceivedRequest, ServiceDefinition
from cds_hooks.strict_json import parse_json
from cds_hooks.tokens import MemoryReplayStore, ReplayStore, TokenSigner, Trust, TrustedIssuer, VerifiedToken

__all__ = [
    "ALGORITHMS",
    "FHIR_ID",
    "MAX_ENTRIES",
    "MAX_SUMMARY",
    "MIN_RSA_BITS",
    "AcceptedFeedback",
    "Action",
    "CallFailedError",
    "CallRefusedError",
    "Card",
    "CardCoding",
    "CardError",
    "CdsHooks",
    "ClientError",
    "Feedback",
    "FeedbackError",
    "FetchError",
    "FetchedKeys",
    "FhirAuthorization",
    "ForbiddenError",
    "HandlerFailedError",
    "HookError",
    "HookRequest",
    "HookResponse",
    "HookServices",
    "Incoming",
    "InvalidAnswerError",
    "KeyRefusedError",
    "Link",
    "MalformedRequestError",
    "MemoryReplayStore",
    "MethodNotSupportedError",
    "MissingPrefetchError",
    "Observer",
    "OpenApi",
    "OverriddenFeedback",
    "OverrideReason",
    "Prefetch",
    "PrefetchTemplate",
    "ReceivedRequest",
    "ReplayStore",
    "ServiceDefinition",
    "ServiceDefinitionError",
    "Source",
    "Suggestion",
    "TokenRefusedError",
    "TokenSigner",
    "TooLargeError",
    "Trust",
    "TrustedIssuer",
    "UnavailableError",
    "UnknownCardError",
    "UnknownServiceError",
    "UnsupportedMediaTypeError",
    "UnusablePrefetchError",
    "VerifiedToken",
    "VerifyingKey",
    "arrived",
    "complete",
    "fetch_all",
    "fill",
    "openapi_document",
    "operation_outcome",
    "parse_feedback",
    "parse_json",
    "parse_keys",
    "parse_request",
    "read_keys",
    "resource_type",
]
