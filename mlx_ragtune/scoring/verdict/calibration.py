"""A judge's paired difference, corrected by human labels: prediction-powered inference.

Angelopoulos et al. 2023 (arXiv 2301.09633): what the judge says of all questions, plus the mean of its
errors on the labelled ones. Unbiased whatever the judge; the better it is, the narrower the interval.
"""

import math

import numpy as np

from mlx_ragtune.errors import InputError
from mlx_ragtune.scoring.verdict.statistics import Codes, Estimate, Floats, Mask

LEAST_LABELS = 50


def corrected_difference(judged: Floats, human: Floats, labelled: Mask, clusters: Codes) -> Estimate:
    """The corrected mean difference (tuned − base) with a cluster-robust standard error and G − 1 df.

    All arrays have shape [n]: the judge's difference per question, the human's (read only where
    ``labelled``), cluster codes. θ = mean of judged over the unlabelled + mean of (human − judged) over the
    labelled; the labelled questions must be a random choice. A cluster's questions on both sides are
    taken together: variance G/(G − 1) · Σ_g (Σ_{i∈g} ψ_i)² with ψ the centred terms over their n.
    Raises InputError with fewer than ``LEAST_LABELS`` labels, or when no question is left unlabelled.
    """
    n_labels, n_rest = int(labelled.sum()), int((~labelled).sum())
    if n_labels < LEAST_LABELS or n_rest == 0:
        raise InputError(
            f"{n_labels} human labels and {n_rest} questions without: the correction needs {LEAST_LABELS} and one",
            fix=f"label at least {LEAST_LABELS} questions, chosen at random, and leave some to the judge",
        )
    errors = human[labelled] - judged[labelled]
    rest = judged[~labelled]
    terms = np.zeros(judged.size)
    terms[labelled] = (errors - errors.mean()) / n_labels
    terms[~labelled] = (rest - rest.mean()) / n_rest
    sums = np.bincount(clusters, weights=terms)
    groups = sums.size
    mean = float(rest.mean() + errors.mean())
    if groups < 2:
        return Estimate(mean, math.inf, 0)
    return Estimate(mean, math.sqrt(groups / (groups - 1) * float((sums**2).sum())), groups - 1)
