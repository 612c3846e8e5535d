"""Reviews of benchmark questions and training pairs by a person: what is shown, what was decided, what it says."""
