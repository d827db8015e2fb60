"""The Flask application: factory, routes, shared parts, the gunicorn worker, reloads."""
