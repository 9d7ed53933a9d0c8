"""What is kept on disk: the journal of messages and the audit record, in one SQLite file."""
