"""A trained model behind HTTP: events in, recommendations out, states in a store that several processes share.

Data go one way: ``app`` reads requests by ``schemas``, ``gate`` limits them, ``request_queue`` collects those that wait
into batches, ``service`` answers a batch by the model, and ``stores`` keep what must outlast the process. ``server``
starts and replaces the processes.
"""
