"""The limits a serving process keeps: admission, deadlines, memory."""
