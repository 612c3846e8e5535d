"""What every test may rely on."""

import signal

# A shell that starts this in the background leaves SIGINT ignored, and children would inherit that: no test of Ctrl-C
# would stop anything. With a handler here, a child begins with the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

from hypothesis import settings  # noqa: E402

from tests.served_models import models, private_cache, standin  # noqa: E402, F401
from tests.toy_models import toys, written  # noqa: E402, F401

settings.register_profile("short", max_examples=50, deadline=None)
settings.load_profile("short")
