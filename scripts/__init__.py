"""Chores of the project itself; the product does not import them."""
