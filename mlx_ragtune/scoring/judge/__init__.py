"""A chat model as judge, and whether it can be trusted."""
