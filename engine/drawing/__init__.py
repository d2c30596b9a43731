"""Drawing pictures with finished weights: settings, prompts, samplers, what is written into pictures."""
