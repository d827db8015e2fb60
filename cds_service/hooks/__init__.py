"""Answering a hook: prefetch, prediction time, locations, note attachments, assessment, feedback, replay."""
