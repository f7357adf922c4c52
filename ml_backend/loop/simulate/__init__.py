"""Active learning played on a folder whose masks are all known, to see what saves labels.

A curve is one strategy with one seed: a few tiles to start with, a network trained on them from
scratch, the next batch chosen by what it says of the pool, and so on; after each training the
held-out images tell the IoU. Everything inside is what the product itself uses: its training,
its passes and scores, and `loop.choose`. Modules: `plan` (what is asked), `fit` (what cannot be),
`material` (the images), `networks` (how they learn), `records` (what is kept), `run` (one curve),
`figures` (statistics), `report`, `drawing`.
"""
