"""The captioners, one file each: `Settings` and `load` (see captioning/protocol.py)."""
