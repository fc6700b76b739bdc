"""The shipped model: export, quantisation, runtimes, device profiles and cost."""
