"""What a site decides: settings, modes of a service, alert policy."""
