"""CDS Hooks on the wire: requests, strict JSON, services and their prefetch templates, OperationOutcome, OpenAPI."""
