"""The diffusion process: schedule, training objective, DDIM sampler, noise by coordinate."""
