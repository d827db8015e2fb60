"""Commands that run or manage the service: demo, serve, read-ahead, client, mode, doctor."""
