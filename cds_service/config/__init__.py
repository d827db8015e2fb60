"""A site's configuration: settings, modes of a service, alert policy."""
