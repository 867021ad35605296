"""A mixed model of ratings, as a check of the bootstrap's means."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

from rrpo.errors import UserError
from rrpo.interval import Interval
from rrpo.listen.answers import FEWEST, Judgement
from rrpo.listen.power import SURE

UNFIT = "the ratings vary too little, or in too few places, to tell its variances apart"


def mixed_model(answers: Sequence[Judgement], systems: Sequence[str]) -> dict[str, Any] | str:
    """Fit rating = system + listener + item + rest by restricted maximum likelihood.

    Listeners and items are crossed random effects, which statsmodels fits as components of
    variance. That listeners or items prefer a system is not in it (fits with these did not
    converge), so its intervals of differences are the narrower ones where that is so.

    Returns:
        means of systems, without intervals of fewer than five listeners or items, and the variances
        of the parts; or in words why there are none.
    """
    listeners = {one.listener for one in answers}
    items = {one.item for one in answers}
    there = [name for name in systems if any(one.systems[0] == name for one in answers)]
    if len(listeners) < 3 or len(items) < 3 or not there:
        return "it needs three listeners and three items"
    if len({one.score for one in answers}) == 1:
        return "all ratings are the same"
    try:
        import pandas
        from statsmodels.regression.mixed_linear_model import MixedLM
    except ModuleNotFoundError as error:
        package = (error.name or "statsmodels").partition(".")[0]
        raise UserError(f"{package} is not installed: pip install 'rrpo[listen]'") from None
    rows = [one for one in answers if one.systems[0] in there]
    table = pandas.DataFrame(
        {
            "rating": [one.score for one in rows],
            "system": [one.systems[0] for one in rows],
            "listener": [one.listener for one in rows],
            "item": [one.item for one in rows],
            "all": 1,
        }
    )
    parts = {"listener": "0 + C(listener)", "item": "0 + C(item)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = MixedLM.from_formula(
                "rating ~ 0 + C(system)", table, groups="all", vc_formula=parts
            ).fit()
            means, errors = fit.fe_params, fit.bse_fe
        except Exception:  # a singular matrix, of several libraries' own kinds
            return UNFIT
    if not all(math.isfinite(value) for value in (*means, *errors, *fit.vcomp, fit.scale)):
        return UNFIT
    found = {}
    for name in there:
        mean = float(means[f"C(system)[{name}]"])
        half = SURE * float(errors[f"C(system)[{name}]"])
        few = min(len(listeners), len(items)) < FEWEST
        found[name] = Interval(mean) if few else Interval(mean, mean - half, mean + half)
    variances = dict(zip(fit.model.exog_vc.names, map(float, fit.vcomp), strict=True))
    return {
        "means": found,
        "variances": {**variances, "rest": float(fit.scale)},
        "converged": bool(fit.converged),
    }
