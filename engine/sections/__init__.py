"""Every setting of a run, each written once: one file a section, one line a setting.

The order of the sections (in `preset.py`) and of the lines is the order on the page. Derived numbers are not here but in
`plan.py`.
"""
