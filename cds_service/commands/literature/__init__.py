"""Commands on the PubMed index."""
