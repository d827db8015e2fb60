"""The demo: an EHR simulator in the browser that calls the service as an EHR would."""
