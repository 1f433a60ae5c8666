"""Devices learn together: contributions go in, a group's next version comes out."""
