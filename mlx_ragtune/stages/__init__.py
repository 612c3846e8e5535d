"""The eight stages, one module each; they join the rooms and never import each other."""
