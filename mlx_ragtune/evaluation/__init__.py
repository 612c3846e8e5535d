"""Asks models the fixed questions: items, requests, served-prompt check, fairness, second opinions."""
