"""Tests read and change what compiled code keeps to itself, so they run the plain source unless told otherwise."""

import os
import signal

os.environ.setdefault("HARBOR_PURE", "1")  # before anything imports harbor; processes that tests start inherit it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup programs would inherit that it is ignored
