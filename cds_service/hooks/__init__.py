"""A hook's way: prefetch, prediction time, locations, note attachments, assessment, feedback, replay."""
