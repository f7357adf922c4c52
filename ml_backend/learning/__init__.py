"""Arrays in, weights or probabilities out (torch; no files but those handed in, no clock)."""

from ml_backend.settings import prefer

# Torch's threads spin while they wait for each other. Where two trainings, or a training and a
# browser, share the processor's cores, most of the time goes into that; sleeping threads were 4
# to 9 times as fast there. It must be said before torch is imported anywhere.
prefer("OMP_WAIT_POLICY", "PASSIVE")
