"""Our rewards and judges for trainers that people already run: TRL and verl."""
