"""Preference losses: pure functions of tensors, one file per family.

For policies the argument is ``h_B``, how much more the policy has moved towards the chosen response
than towards the rejected one, against the reference (`log_ratio_difference`); for reward models it
is the difference of two scores. ``p_B`` is the judge's probability, in [0, 1], that chosen is
better. Every function returns one loss per pair, ``[B]``, unreduced.

Axes: B pairs.
"""
