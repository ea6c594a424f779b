"""A generation without its network: the real scheduler, wavefront, journal and writer, at full size.

``null`` is the network that does nothing, ``atlas`` an atlas with tissue and next to nothing in it, ``lives`` runs a
generation in processes that are killed, ``check`` compares what they leave with what must be there, ``run`` puts them
together.
"""
