"""The caption workbench: a folder's captions filtered, edited, changed in bulk and undone. No torch, no page."""
