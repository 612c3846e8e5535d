"""Reading and writing JSONL: one row a line, lines end in ``\\n`` only."""
