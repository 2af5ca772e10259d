"""Encoders that no library has, as torch modules written anew from descriptions of the published ones.

Their tensors carry the names of the published checkpoints. Modules here import torch at their top, so nothing imports
them outside a function.
"""
