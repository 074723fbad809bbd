"""The smallest perturbations that change predictions, found exactly."""
