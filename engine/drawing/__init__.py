"""Drawing pictures with finished weights: settings, prompts, samplers, what is written into pictures.

`settings`, the prompt language and all that they import are torch-free.
"""
