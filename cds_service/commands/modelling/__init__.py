"""Commands that build cohorts, train, evaluate and describe models."""
