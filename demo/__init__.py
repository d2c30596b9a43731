"""The embedded demo: a tiny SDXL that was really trained, and a data set of one new concept.

``python -m demo.build`` makes all of it from seeds; see README.md.
"""

import engine  # noqa: F401  (prepares the import of torchvision: engine/compat.py)
