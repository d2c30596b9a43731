"""The training engine. Importing it imports no torch; it only makes later imports of libraries safe and quick."""

from engine.imports import prepare

prepare()
