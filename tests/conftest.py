"""Tests read and change what compiled code keeps to itself, so they run the plain source unless told otherwise."""

import os

os.environ.setdefault("HARBOR_PURE", "1")  # before anything imports harbor; processes that tests start inherit it
