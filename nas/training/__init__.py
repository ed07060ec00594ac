"""Training of the supernet: phases, samplers, losses, gradient surgery, checkpoints, one process or many."""
