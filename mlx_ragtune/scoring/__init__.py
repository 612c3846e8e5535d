"""Pure: one metric per module, the statistics, the fairness gate and the verdict. Imports no backend."""
