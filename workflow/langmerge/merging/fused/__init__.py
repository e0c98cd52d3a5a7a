"""The inner loops of merges on a CPU in C, each in one pass over the values as they are stored.

torch's functions in `langmerge.merging.methods` are the reference: they run on other devices and where no C compiler is
found, and every loop here gives their bits.
"""
