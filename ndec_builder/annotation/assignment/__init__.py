"""Who labels what, and in which order: rounds, queues, gold pairs, reassignment."""
