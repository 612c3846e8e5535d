"""A judge's paired difference, corrected by human labels: prediction-powered inference.

Angelopoulos et al. 2023 (arXiv 2301.09633): the judge's mean over all questions plus the mean of its
errors on the labeled ones. Unbiased for any judge; a better judge gives a narrower interval.
"""

import math

import numpy as np

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.statistics import Codes, Estimate, Floats, Mask

MIN_LABELS = 50


def corrected_difference(judged: Floats, human: Floats, labeled: Mask, clusters: Codes) -> Estimate:
    """The corrected mean difference (tuned − base) with a cluster-robust standard error and G − 1 df.

    All arrays have shape [n]: the judge's difference per question, the human's (read only where
    ``labeled``), cluster codes. θ = mean of judged over the unlabeled + mean of (human − judged) over the
    labeled ones, which must be a random choice. A cluster's labeled and unlabeled questions are taken
    together: variance G/(G − 1) · Σ_g (Σ_{i∈g} ψ_i)² with ψ the centered terms over their n.
    Raises InputError with fewer than ``MIN_LABELS`` labels, or when no question is left unlabeled.
    """
    n_labels, n_rest = int(labeled.sum()), int((~labeled).sum())
    if n_labels < MIN_LABELS or n_rest == 0:
        raise InputError(
            f"{n_labels} human labels and {n_rest} questions without a label; the correction needs {MIN_LABELS} and 1",
            fix=f"label at least {MIN_LABELS} questions, chosen at random, and leave some to the judge",
        )
    errors = human[labeled] - judged[labeled]
    rest = judged[~labeled]
    terms = np.zeros(judged.size)
    terms[labeled] = (errors - errors.mean()) / n_labels
    terms[~labeled] = (rest - rest.mean()) / n_rest
    sums = np.bincount(clusters, weights=terms)
    groups = sums.size
    mean = float(rest.mean() + errors.mean())
    if groups < 2:
        return Estimate(mean, math.inf, 0)
    return Estimate(mean, math.sqrt(groups / (groups - 1) * float((sums**2).sum())), groups - 1)
