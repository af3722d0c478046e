"""The phase loop, optimisers and schedules, checkpoints."""
