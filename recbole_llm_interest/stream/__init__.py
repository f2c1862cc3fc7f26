"""A model that follows a stream of events: states at once, new weights on a schedule, each event once.

Data go one way: ``sources`` reads lines, ``events`` makes events of them, ``LiveStates`` moves users on,
``rolling_evaluation`` counts how well each event was predicted, ``follower`` writes it all to ``io.event_store``, and
``refresh`` trains further on what is stored there, in a process of its own.
"""
