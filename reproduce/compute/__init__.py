"""How a machine computes: devices, precision, compilation, CUDA graphs, several GPUs."""
