"""Containerizers: they launch containers, watch them and take them apart again."""
