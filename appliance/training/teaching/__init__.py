"""A new specialist from a firm's own labelled rows, on the appliance and without PyTorch: read, check, split, fit."""
