"""For all tests."""

import signal

# A shell that starts tests in the background has them ignore Ctrl-C, and so do all their children; some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
