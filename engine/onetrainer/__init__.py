"""Presets of OneTrainer (.json), read into ours with the receipt of engine/kohya/receipt.py. Torch-free.

Only keys whose meaning is known for sure are taken over; every other key that is not at its default is told.
"""
