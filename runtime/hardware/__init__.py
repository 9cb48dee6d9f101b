"""From the machine to a ranked list of kernels: `probe` looks, `rank` decides."""
