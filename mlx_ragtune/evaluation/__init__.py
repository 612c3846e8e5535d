"""Asking models the frozen questions: items, requests, served-prompt check, fairness."""
