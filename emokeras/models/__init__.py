"""What learns: layers, branch bodies, fusion, whole networks."""
