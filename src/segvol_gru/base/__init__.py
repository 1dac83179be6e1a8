"""Base segmenters: prompts on a volume -> the first field of logits (paper Eq. 1)."""
