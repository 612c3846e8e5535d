"""A recipe's pairs are gathered, and become the files of each split."""
