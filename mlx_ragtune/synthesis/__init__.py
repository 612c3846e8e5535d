"""Question-answer pairs: read or generated, checked, split by paper, given contexts. No backend here."""
